# Threads with queues, a mutex and a condition variable, a fiber, and the collector's work between them.
require "thread"

ITEMS = 240
todo = SizedQueue.new(8)
done = Queue.new
lock = Mutex.new
changed = ConditionVariable.new
sum = 0

workers = 4.times.map do
  Thread.new do
    Thread.current[:turns] = 0
    while (item = todo.pop)
      words = (1..6000).map { |i| (item * i % 9973).to_s(7) }
      text = words.sort.join(" ")
      hash = text.bytes.reduce(5381) { |h, b| (h * 33 + b) & 0xffffffff }
      Thread.current[:turns] += 1
      done << [item, hash, text.length]
      lock.synchronize { sum += hash; changed.signal }
    end
    Thread.current[:turns]
  end
end
feeder = Thread.new do
  ITEMS.times { |item| todo << item }
  workers.each { todo << nil }
end
numbers = Fiber.new { 1.step { |i| Fiber.yield i * i } }
late = {}
ITEMS.times do |wanted|
  until late.key?(wanted)
    item, *result = done.pop
    late[item] = result
  end
  puts "#{wanted} #{late.delete(wanted).join(" ")} #{numbers.resume}"
  $stdout.flush
  sleep 0.001 if wanted % 10 == 0
end
feeder.join
lock.synchronize { changed.wait(lock, 0.01) while sum == 0 }
puts "turns #{workers.sum(&:value)} sum #{sum} threads #{Thread.list.size}"
