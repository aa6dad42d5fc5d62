-- Count events, each once. Keys: all zsets, beat string, channel hash. ARGV: 2 history
-- Answers {pending, deferred, claimed, sent, dead, suppressed, untold, ms since the oldest became due or -1,
--          ms since beat's last gather or -1, channel held since (ms) or -1, channel's reason, channel's next step}
local oldest = redis.call('ZRANGE', PENDING, 0, 0, 'WITHSCORES')[2]
local beat = tonumber(redis.call('GET', prefix .. 'beat'))
local channel = redis.call('HMGET', CHANNEL, 'since', 'reason', 'next_step')
local horizon = '(' .. string.format('%d', now - tonumber(ARGV[2]))
local function kept(state) return redis.call('ZCOUNT', prefix .. state, horizon, '+inf') end
return {
  redis.call('ZCOUNT', PENDING, '-inf', now),
  redis.call('ZCOUNT', PENDING, '(' .. string.format('%d', now), '+inf'),
  redis.call('ZCARD', CLAIMED),
  kept('sent'), kept('dead'), kept('suppressed'),
  -- Those that a worker has told of, and those that none has come to yet.
  redis.call('ZCARD', prefix .. 'untold') + redis.call('ZCOUNT', prefix .. 'unheard', '-inf', now),
  oldest and tonumber(oldest) <= now and now - tonumber(oldest) or -1,
  beat and now - beat or -1,
  tonumber(channel[1]) or -1, channel[2] or '', channel[3] or '',
}
