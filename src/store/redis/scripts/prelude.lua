-- Put before every script of this folder.
-- KEYS[1]: the partition's generation hash. ARGV[1]: the generation the connection found.
-- KEYS[2] and on: sessions, each a text: `attempt nonce node`, where the node is the one that has
-- its connection or '', a line feed, and the body.
local current = redis.call('HGET', KEYS[1], 'g')
if current ~= ARGV[1] then return {'STALE', current or ''} end

local HEADER = '^(%d+) (%d+) ([^\n]*)\n'

-- Whether whole numbers written without leading zeros are in order; Lua's own are doubles.
local function below(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- The attempt that holds the session against this fence; nil: the fence is admitted.
local function held_against(stored, attempt, nonce)
  local holder, theirs = string.match(stored or '', HEADER)
  if not holder or below(holder, attempt) then return nil end
  if holder == attempt and theirs == nonce then return nil end
  return holder
end

