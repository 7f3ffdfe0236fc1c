-- What every script that writes begins with: the caller's position, the meta of the partition, bump and append.
--
-- KEYS 1 meta (hash) · 2 log (stream) · 3.. as the script says
-- ARGV 1 hint channel · 2 PUBLISH or SPUBLISH · 3 partition · 4 5 the caller's position · 6 7 most entries and bytes
--      of the log · in scripts that append: 8 envelope · 9 public channel · 10 JSON object for it · 11.. as it says
--
-- A script is not rolled back when it dies, so every prefix of one must be safe. Hence the order everywhere: delete,
-- count, append, publish. A number that was counted and not appended is a hole, which sync finds.

local META, LOG = KEYS[1], KEYS[2]
local CHANNEL, PUBLISH, PARTITION = ARGV[1], ARGV[2], tonumber(ARGV[3])
local AT_E, AT_S = tonumber(ARGV[4]), tonumber(ARGV[5])
local ENTRIES_MAX, BYTES_MAX = tonumber(ARGV[6]), tonumber(ARGV[7])

-- Lua counts in doubles: at 2^53 two positions could be one.
local LIMIT = 9007199254740992
if not AT_E or not AT_S or AT_E >= LIMIT or AT_S >= LIMIT then
  return redis.error_reply('POSITION the position of the caller is at or above 2^53')
end

-- The state of the partition: epoch, last sequence, bytes of the log (about), number of groups.
local M

-- '%.0f' and never tostring: that turns to exponents at 1e14.
local function text(n) return string.format('%.0f', n) end

local function micros() local t = redis.call('TIME'); return t[1] * 1000000 + t[2] end
local function millis() return math.floor(micros() / 1000) end

-- Which life of which server this is: another after a restart, a promotion or (rarely) a lost backlog. Without it a
-- server restored from an old snapshot would give the same positions to other events.
-- Both ids have 40 digits. Plain finds, one call: a pattern walking over the text costs more than INFO itself.
local function incarnation()
  local info = redis.call('INFO', 'server', 'replication')
  local _, run = info:find('run_id:', 1, true)
  local _, replid = info:find('master_replid:', 1, true)
  return info:sub(run + 1, run + 40) .. ':' .. info:sub(replid + 1, replid + 40)
end

-- A hint: the position in front of the envelope, as cache_events::wire::encode_hint writes it.
local function hint(envelope)
  redis.call(PUBLISH, CHANNEL, struct.pack('>I4I8I8', PARTITION, M.e, M.s) .. envelope)
end

-- HDEL in portions, for unpack has a limit.
local function forget(fields)
  for from = 1, #fields, 500 do
    redis.call('HDEL', META, unpack(fields, from, math.min(from + 499, #fields)))
  end
end

-- A new epoch, above all that this server and the caller know: everything written before is dead. The rows of the
-- nodes stay, the groups go (what they stamped is dead anyway), the log begins anew with a marker.
local function bump(why)
  local old = tonumber(redis.call('HGET', META, 'e') or '') or 0
  local e = math.max(micros(), old + 1, AT_E + 1)
  if e >= LIMIT then error('the epoch would reach 2^53') end
  M = { e = e, s = 0, b = 0, g = 0 }
  redis.call('DEL', LOG)
  local all, groups = redis.call('HGETALL', META), {}
  redis.call('HSET', META, 'e', text(e), 's', '0', 'b', '0', 'gc', '0', 'i', incarnation(), 'why', why)
  for i = 1, #all, 2 do
    if all[i]:sub(1, 2) == 'g:' then groups[#groups + 1] = all[i] end
  end
  forget(groups)
  redis.call('XADD', LOG, text(e) .. '-0', 'd', '')
  hint('')
end

-- Finds out whether the history is still the one that the caller knows; if not, a new epoch begins.
local function ensure()
  local h = redis.call('HMGET', META, 'e', 's', 'i', 'b', 'gc')
  local e, s = tonumber(h[1] or ''), tonumber(h[2] or '')
  if not e or not s then return bump('init') end
  if h[3] ~= incarnation() then return bump('incarnation') end
  if AT_E > e or (AT_E == e and AT_S > s) then return bump('future cursor') end
  M = { e = e, s = s, b = tonumber(h[4] or '') or 0, g = tonumber(h[5] or '') or 0 }
end

-- Keeps the log below its limits. Its bytes are known only about: payloads are added up, and what a trim takes away
-- is taken for average. So this runs once in many appends, and exactly.
local function trim()
  if M.b <= BYTES_MAX and M.s % math.max(1, math.min(128, math.floor(ENTRIES_MAX / 8))) ~= 0 then return end
  local before = redis.call('XLEN', LOG)
  if before == 0 then return end
  local keep = math.min(before, ENTRIES_MAX)
  if M.b * keep / before > BYTES_MAX then keep = math.floor(0.9 * before * BYTES_MAX / M.b) end
  if keep < before then
    redis.call('XTRIM', LOG, 'MAXLEN', '=', text(keep))
    M.b = math.floor(M.b * keep / before)
    redis.call('HSET', META, 'b', text(M.b))
  end
end

-- Counts, appends, publishes the envelope of ARGV; answers the position.
local function append()
  local envelope, public, json = ARGV[8], ARGV[9], ARGV[10]
  M.s, M.b = M.s + 1, M.b + #envelope + 64
  local e, s = text(M.e), text(M.s)
  redis.call('HSET', META, 's', s, 'b', text(M.b))
  redis.call('XADD', LOG, e .. '-' .. s, 'd', envelope)
  hint(envelope)
  if public ~= '' and json ~= '' then
    local members = json:sub(1, -2)
    if members ~= '{' then members = members .. ',' end
    redis.call('PUBLISH', public,
      members .. '"epoch":' .. e .. ',"sequence":' .. s .. '}')
  end
  trim()
  return { e, s }
end
