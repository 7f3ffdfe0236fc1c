-- Removes keys, appends, stamps resources.
-- KEYS 3.. record, lease, floor of each key · then the stamps of the resources
-- ARGV 8 number of keys · 9 keep ms · 10 hold ms · 11 12 floor of versions
local keep, hold, hi, lo = ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local last = 2 + 3 * ARGV[8]
for i = 3, last, 3 do remove(KEYS[i], KEYS[i + 1], KEYS[i + 2], hi, lo, keep, hold) end
local s = append()
-- Records of a resource are not known here: the stamp makes them worthless, and their time removes them.
for i = last + 1, #KEYS do stamp(KEYS[i], s, { hi = tonumber(hi), lo = tonumber(lo) }, keep) end
return publish(s)
