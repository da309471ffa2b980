-- Reads a session; writes nothing.
-- Answers {'OK', attempt, nonce, node, body} or {'UNKNOWN'}.
local stored = redis.call('HMGET', KEYS[2], 'attempt', 'nonce', 'node', 'body')
if not (stored[1] and stored[2]) then return {'UNKNOWN'} end
return {'OK', stored[1], stored[2], stored[3] or '', stored[4] or ''}
