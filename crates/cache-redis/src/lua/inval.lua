-- Removes keys, appends, stamps resources.
-- KEYS 3.. record, lease, floor of each key · then the stamps of the resources
-- ARGV 7 number of keys · 8 keep ms · where there is any: 9 hold ms · 10 11 floor of versions
local keep, hold, hi, lo = ARGV[8], ARGV[9] or '0', ARGV[10] or '0', ARGV[11] or '0'
for i = 3, last, 3 do remove(KEYS[i], KEYS[i + 1], KEYS[i + 2], hi, lo, keep, hold) end
local s = append()
-- Records of a resource are not known here: the stamp makes them worthless, and their time removes them.
for i = last + 1, #KEYS do stamp(KEYS[i], s, { hi = tonumber(hi), lo = tonumber(lo) }, keep) end
return publish(s)
