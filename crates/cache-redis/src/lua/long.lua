-- Where the short way (fast.lua) has left it.
ensure()
if APPENDED then
  trim()
  return ARGV[3] .. '-' .. APPENDED
end
-- Unless a new epoch has begun already.
if AHEAD and E == AT_E then bump('future cursor') end
