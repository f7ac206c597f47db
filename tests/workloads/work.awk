# Associative arrays, strings, regular expressions, floats; a line for each step.
function mix(value) {
    state = (state * 31 + value) % 2147483647
}
BEGIN {
    state = 11
    x = 0.4
    for (step = 1; step <= 120; step++) {
        for (i = 1; i <= 9000; i++) {
            x = 3.97 * x * (1 - x)
            key = sprintf("%04x", int(x * 10000))
            seen[key] += i
            if (key ~ /^[0-9]+[a-f]/)
                mix(seen[key])
        }
        n = asorti(seen, keys)
        text = ""
        for (i = 1; i <= n && i <= 1500; i++)
            text = text " " keys[i]
        count = gsub(/[0-4]f/, "<&>", text)
        m = split(text, parts, /[<>]/)
        for (i = 1; i <= m; i += 7)
            mix(length(parts[i]))
        printf "%d %d %d %d %.12g\n", step, state, n, count, x
        fflush()
    }
    exit 5
}
