-- Removes the keys that a pattern found, with floors and without an event: that follows when all are gone.
-- KEYS 3.. record, lease, floor of each key · ARGV 8 keep ms
ensure()
for i = 3, #KEYS, 3 do remove(KEYS[i], KEYS[i + 1], KEYS[i + 2], { hi = 0, lo = 0 }, tonumber(ARGV[8]), 0) end
return #KEYS
