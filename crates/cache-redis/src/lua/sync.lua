-- What follows a position. Notes where the node stands, so it is a write, and only a true master answers it.
-- ARGV 5 node · 6 most entries
-- Answers { O entries | G gap | R other epoch, epoch, sequence, server ms, envelopes or group table }. Of entries there are
-- the envelopes alone: they follow the caller's position without a hole, and Lua copies all that it hands out.
ensure()
local s, now = head(), millis()
call('HSET', META, 'n:' .. ARGV[5], ARGV[3] .. '-' .. ARGV[4] .. ':' .. now)

-- Rows of nodes that were not heard of for 20 s (ten times the default bound) go. Looking for them reads the whole
-- meta with its groups, so it happens once in ten seconds.
local pruned = tonumber(call('HGET', META, 'pruned') or '') or 0
if math.abs(now - pruned) > 10000 then
  local all, old = call('HGETALL', META), {}
  for i = 1, #all, 2 do
    if all[i]:sub(1, 2) == 'n:' and math.abs(now - (tonumber(all[i + 1]:match(':(%d+)$')) or 0)) > 20000 then
      old[#old + 1] = all[i]
    end
  end
  forget(old)
  call('HSET', META, 'pruned', now)
end

local function answer(tag, list) return { tag, EPOCH, s, now, list } end

-- The groups alone (text, sequence, ...), not the rows of the nodes.
local function groups()
  local all, list = call('HGETALL', META), {}
  for i = 1, #all, 2 do
    if all[i]:sub(1, 2) == 'g:' then
      list[#list + 1] = all[i]:sub(3)
      list[#list + 1] = all[i + 1]:match('^(%d+)')
    end
  end
  return list
end

if AT_E ~= E then return answer('R', groups()) end
if AT_S == s then return answer('O', {}) end
local found = call('XRANGE', LOG, '(' .. EPOCH .. '-' .. ARGV[4], '+', 'COUNT', ARGV[6])
-- Ids grow, so the last one tells whether all of them are there: trimmed, deleted or never appended is a gap.
if #found == 0 or sequence(found[#found][1]) ~= AT_S + #found then return answer('G', groups()) end
local envelopes = {}
for i = 1, #found do
  -- An entry without our field has an empty envelope, which the receiver cannot decode and takes for the worst.
  local fields = found[i][2]
  envelopes[i] = fields[1] == 'd' and fields[2] or ''
end
return answer('O', envelopes)
