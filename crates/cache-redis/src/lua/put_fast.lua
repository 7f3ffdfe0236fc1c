-- A record, and nothing for the public channel.
local at_e, at_s, RECORD = tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[7]
local FAST = ARGV[6] == '' and #RECORD >= 28 and RECORD:sub(1, 2) == 'EC'
  and at_e and at_s and at_e < LIMIT - 1 and at_s < LIMIT
-- ARGV 9 kind of cargo, where the hint carries one · 10 the cargo, if it is not the record itself
if ARGV[9] then HINT = '\237\1' .. ARGV[9] .. struct.pack('>I4', #ARGV[5]) .. ARGV[5] .. (ARGV[10] or RECORD) end
