-- Put before every script of this folder.
-- KEYS[1]: the partition's generation hash. ARGV[1]: the generation the connection found.
-- KEYS[2]: the session: attempt, nonce, node (that has its connection, or ''), body.
local current = redis.call('HGET', KEYS[1], 'g')
if current ~= ARGV[1] then return {'STALE', current or ''} end

-- Whether whole numbers written without leading zeros are in order; Lua's own are doubles.
local function below(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end

-- The attempt that holds the session against this fence; nil: the fence is admitted.
local function held_against(attempt, nonce)
  local stored = redis.call('HMGET', KEYS[2], 'attempt', 'nonce')
  if not stored[1] or below(stored[1], attempt) then return nil end
  if stored[1] == attempt and stored[2] == nonce then return nil end
  return stored[1]
end

