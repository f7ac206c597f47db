-- Tables, strings, closures, coroutines, floats and integers; a line for each step.
local state = 17
local function mix(value)
  state = (state * 31 + value) % 4294967291
end

local function permutations(list, n)
  if n == 0 then
    coroutine.yield(list)
  else
    for i = 1, n do
      list[n], list[i] = list[i], list[n]
      permutations(list, n - 1)
      list[n], list[i] = list[i], list[n]
    end
  end
end

local words = {}
local x = 0.3
for step = 1, 36 do
  for list in coroutine.wrap(function() permutations({1, 2, 3, 4, 5, 6, 7}, 7) end) do
    mix(list[1] * 8 + list[7])
  end
  for i = 1, 6000 do
    x = 3.99 * x * (1 - x)
    local key = string.format("%x", math.floor(x * 65536))
    words[key] = (words[key] or 0) + i
  end
  local keys = {}
  for key in pairs(words) do keys[#keys + 1] = key end
  table.sort(keys)
  local text = table.concat(keys, " ", 1, math.min(#keys, 3000))
  local count = select(2, text:gsub("a%x", "<%0>"))
  for byte in text:sub(1, 5000):gmatch("%x") do mix(tonumber(byte, 16)) end
  mix(count)
  print(step, state, #keys, count, string.format("%.15g", x))
  io.stdout:flush()
end
os.exit(3)
