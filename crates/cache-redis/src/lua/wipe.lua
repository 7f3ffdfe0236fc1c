-- Removes the keys that a pattern found, with floors and without an event: that follows when all are gone.
-- KEYS 3.. record, lease, floor of each key · ARGV 5 keep ms
ensure()
for i = 3, #KEYS, 3 do remove(KEYS[i], KEYS[i + 1], KEYS[i + 2], '0', '0', ARGV[5], '0') end
return #KEYS
