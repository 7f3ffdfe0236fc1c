-- Removes keys, stamps resources, appends.
-- KEYS 3.. record, lease, floor of each key · then the stamps of the resources
-- ARGV 11 number of keys · 12 keep ms · 13 hold ms · 14 15 floor of versions
ensure()
local keys, keep, hold = tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local floor = { hi = tonumber(ARGV[14]), lo = tonumber(ARGV[15]) }
for i = 3, 2 + 3 * keys, 3 do remove(KEYS[i], KEYS[i + 1], KEYS[i + 2], floor, keep, hold) end
-- Records of a resource are not known here: the stamp makes them worthless, and their time removes them.
for i = 3 + 3 * keys, #KEYS do stamp(KEYS[i], floor, keep) end
return append()
