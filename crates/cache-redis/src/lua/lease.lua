-- Reads a record, or grants the right to load it.
-- KEYS 3 record · 4 lease · 5 stamp of the resource
-- ARGV 5 token · 6 ms · 7 '1' to ask for the right even if a record is there
-- Answers { V record | L granted | B busy ms | H hold ms, epoch, sequence, server ms, stamp or '', record or ms }.
ensure()
local s = head()
local stamp = call('GET', KEYS[5])
local last = parse(stamp)
-- Sequences of another epoch say nothing.
if last and last.e ~= E then stamp = nil end
local function answer(tag, what) return { tag, EPOCH, s, millis(), stamp or '', what } end
if ARGV[7] == '0' then
  local value = call('GET', KEYS[3])
  if value and not dead(header(value), E, last) then return answer('V', value) end
end
local holder = call('GET', KEYS[4])
-- The same token again: the first answer was lost on the way.
if not holder or holder == ARGV[5] then
  call('SET', KEYS[4], ARGV[5], 'PX', ARGV[6])
  return answer('L', '')
end
return answer(holder == 'H' and 'H' or 'B', math.max(0, call('PTTL', KEYS[4])))
