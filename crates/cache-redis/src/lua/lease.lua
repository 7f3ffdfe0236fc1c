-- Reads a record, or grants the right to load it.
-- KEYS 3 record · 4 lease · 5 stamp of the resource
-- ARGV 8 token · 9 ms · 10 '1' to ask for the right even if a record is there
-- Answers { V record | L granted | B busy ms | H hold ms, epoch, sequence, server ms, stamp or '', record or ms }.
ensure()
local stamp = redis.call('GET', KEYS[5])
local last = parse(stamp)
-- Sequences of another epoch say nothing.
if last and last.e ~= M.e then stamp = nil end
local function answer(tag, what)
  return { tag, text(M.e), text(M.s), text(millis()), stamp or '', what }
end
if ARGV[10] == '0' then
  local value = redis.call('GET', KEYS[3])
  if value and not dead(header(value), M.e, last) then return answer('V', value) end
end
local holder = redis.call('GET', KEYS[4])
-- The same token again: the first answer was lost on the way.
if not holder or holder == ARGV[8] then
  redis.call('SET', KEYS[4], ARGV[8], 'PX', ARGV[9])
  return answer('L', '')
end
return answer(holder == 'H' and 'H' or 'B', text(math.max(0, redis.call('PTTL', KEYS[4]))))
