-- Pontoon for Stream Avatars: reports the events of your stream to the Pontoon daemon, and carries out its commands.
--
-- To set it up
--   1. In Stream Avatars, make a command with a Lua script ("Create Script") and set "Run As" to "On Connect".
--   2. Open the .lua file in the folder that this made, and put all of this text in place of what is there.
--   3. Fill in the settings below. The token is the one in the daemon's configuration.
--   4. Press F5 in Stream Avatars while it is connected: that runs the scripts again.
--
-- To see that it works
--   Press Alt+C, type Lua and press Enter. The console says "Pontoon: connected as main", or what is wrong.

-- ===== Settings =====

-- Where the daemon listens for scripts: ws://, or wss:// if it is behind TLS.
pontoon_url = 'ws://127.0.0.1:9465/streamavatars'

-- Keep it to yourself: anyone who has it can connect to your daemon as this Stream Avatars.
pontoon_token = 'PUT-THE-TOKEN-HERE'

-- The title of this Stream Avatars in Pontoon. Letters, digits, - and _ only; if you run two, give each its own.
pontoon_title = 'main'

-- true: the token goes in the first request, not in a message. It may then have only letters, digits, - and _ too.
pontoon_token_in_request = false

-- The events that are reported to Pontoon. Put -- before those that are not to be.
pontoon_events = {
    'chatMessage',
    'newViewer',
    'spawn',
    'follower',
    'subscriber',
    'raid',
    'receipts',
    'changeAvatar',
    'backgroundSwitch',
    'battleRoyaleOutcome',
    'bossBattleOutcome',
    'duelOutcome',
    'basketballOutcome',
    'jumpCatchStar',
    'luaPlatformOutput',
    -- Every key that you press, even those of a password: think twice.
    -- 'hotkeyPress',
}

-- ===== Nothing below needs a change =====

script_trigger_type = 'On Connect'

-- The name of the socket in the app.
pontoon_socket = 'pontoon'

-- Every function that the app calls for an event has its own variables. Shared variables are here, and are read and
-- written with get() and set(): only text, numbers and true or false, since tables do not always come back whole.
pontoon_admitted = false
pontoon_inbox = ''
pontoon_waiting = 0
pontoon_lost = 0

-- ----- What the app reports -----

-- The app calls a function by its name, without the name of the event: so each event has one. The words name the
-- event's values, in the order of the app's documentation.
function pontoon_chatMessage(...) pontoon_report('chatMessage', 'user message', ...) end
function pontoon_newViewer(...) pontoon_report('newViewer', 'user', ...) end
function pontoon_spawn(...) pontoon_report('spawn', 'user', ...) end
function pontoon_follower(...) pontoon_report('follower', 'user', ...) end
function pontoon_subscriber(...) pontoon_report('subscriber', 'user cumulativeCount tier', ...) end
function pontoon_raid(...) pontoon_report('raid', 'user', ...) end
function pontoon_receipts(...) pontoon_report('receipts', 'user receipt', ...) end
function pontoon_changeAvatar(...) pontoon_report('changeAvatar', 'user avatar', ...) end
function pontoon_backgroundSwitch(...) pontoon_report('backgroundSwitch', 'user background', ...) end
function pontoon_battleRoyaleOutcome(...) pontoon_report('battleRoyaleOutcome', 'winner earnings', ...) end
function pontoon_bossBattleOutcome(...) pontoon_report('bossBattleOutcome', 'users boss difficulty result', ...) end
function pontoon_duelOutcome(...) pontoon_report('duelOutcome', 'winner loser earnings initiator', ...) end
function pontoon_basketballOutcome(...)
    pontoon_report('basketballOutcome', 'winners losers mvp winnerScores loserScores', ...)
end
function pontoon_jumpCatchStar(...) pontoon_report('jumpCatchStar', 'user', ...) end
function pontoon_hotkeyPress(...) pontoon_report('hotkeyPress', 'modifier hotkey', ...) end
function pontoon_luaPlatformOutput(...) pontoon_report('luaPlatformOutput', 'message', ...) end

-- Reports an event to the daemon. Events without a connection are not kept.
function pontoon_report(event, names, ...)
    if not get('pontoon_admitted') then
        return
    end
    local values, data, place = { ... }, {}, 0
    for name in names:gmatch('%S+') do
        place = place + 1
        data[name] = pontoon_plain(values[place], 1)
    end
    for extra = place + 1, select('#', ...) do
        data['value' .. extra] = pontoon_plain(values[extra], 1)
    end
    pontoon_send({ type = 'event', event = event, data = data })
end

-- A value of the app's as text, number, true or false, or a table of these; nothing else can be sent.
function pontoon_plain(value, depth)
    local kind = type(value)
    if kind == 'boolean' then
        return value
    elseif kind == 'string' then
        -- The app writes JSON that cannot be read if there is a control character in it.
        return (value:gsub('%c', ' '))
    elseif kind == 'number' then
        -- A fraction would be written with a comma on a computer that is set to German.
        if value == math.floor(value) and math.abs(value) < 1e15 then
            return value
        end
        return tostring(value)
    elseif (kind ~= 'table' and kind ~= 'userdata') or depth > 3 then
        return nil
    end

    -- A user or a receipt: these are objects of the app's, which can only be asked for what is known by name.
    local plain, known = {}, false
    local fields = 'id displayName channelName platform avatar streamer moderator vip subscriber follower '
        .. 'name type cost platformCurrencyCost gifted'
    for field in fields:gmatch('%S+') do
        local ok, inner = pcall(function() return value[field] end)
        local scalar = type(inner) == 'string' or type(inner) == 'number' or type(inner) == 'boolean'
        if ok and scalar then
            plain[field], known = pontoon_plain(inner, depth + 1), true
        end
    end
    if known or kind == 'userdata' then
        return plain
    end

    -- A table, of what is numbered or of what is named, never both: the app could not write that.
    for place = 1, math.min(#value, 100) do
        plain[#plain + 1] = pontoon_plain(value[place], depth + 1)
    end
    if #plain == 0 then
        for name, inner in pairs(value) do
            if type(name) == 'string' then
                plain[name] = pontoon_plain(inner, depth + 1)
            end
        end
    end
    return plain
end

function pontoon_send(frame)
    local text = json.serialize(frame)
    if #text > 32000 then
        text = json.serialize({ type = 'error', message = 'too long to be sent: ' .. tostring(frame.event) })
    end
    getApp().sendWebsocketMessage(get('pontoon_socket'), text)
end

-- ----- Messages of the daemon -----

-- The app calls this for every socket of every script. It only puts what came into the inbox, a line each, because
-- two of these calls may run at the same time.
function pontoon_on_socket(socket, kind, message, code)
    if socket ~= get('pontoon_socket') then
        return
    end
    message = tostring(message or '')
    if kind == 'OnMessage' and (get('pontoon_waiting') >= 32 or #message > 8000) then
        set('pontoon_lost', get('pontoon_lost') + 1)
        return
    end
    local line = kind .. ' ' .. tostring(code or ''):gsub('%s', '') .. ' ' .. message:gsub('[\r\n]', ' ') .. '\n'
    set('pontoon_inbox', get('pontoon_inbox') .. line)
    set('pontoon_waiting', get('pontoon_waiting') + 1)
end

-- Empties the inbox. Returns what was in it, and how many messages did not fit.
function pontoon_take()
    local inbox, lost = get('pontoon_inbox'), get('pontoon_lost')
    set('pontoon_inbox', '')
    set('pontoon_waiting', 0)
    set('pontoon_lost', 0)
    return inbox, lost
end

-- Reads a message. Returns nil if it is not an object with a type.
function pontoon_read(text)
    -- The app may fail to read "\/", which means no more than "/".
    local readable = text:gsub('\\(.)', function(escaped) if escaped == '/' then return '/' end end)
    local ok, frame = pcall(json.parse, readable)
    if ok and type(frame) == 'table' and type(frame.type) == 'string' then
        return frame
    end
    return nil
end

-- Carries out a message. Returns what is wrong, or nil.
function pontoon_obey(frame)
    local ok, wrong = true, nil
    if frame.type == 'runCommand' then
        if type(frame.command) ~= 'string' or frame.command == '' then
            return 'runCommand without a command'
        end
        ok, wrong = pcall(runCommand, frame.command, frame.quiet == true)
    elseif frame.type == 'writeChat' then
        if type(frame.text) ~= 'string' or frame.text == '' then
            return 'writeChat without a text'
        end
        ok, wrong = pcall(writeChat, frame.text)
    elseif frame.type ~= 'welcome' and frame.type ~= 'heartbeat' then
        return 'there is no such type: ' .. frame.type
    end
    if ok then
        return nil
    end
    return frame.type .. ' failed: ' .. tostring(wrong)
end

-- ----- The connection -----

-- Connects, and serves the connection until it ends. Returns how many seconds it lasted, why it ended, and whether
-- the daemon refused the script.
function pontoon_connection(app)
    -- One may be left from before F5 or from the last try, and may still receive messages.
    app.removeWebSocket(pontoon_socket)
    wait(1)
    pontoon_take()
    if pontoon_token_in_request then
        -- The app's documentation shows such pairs. As a list of subprotocols it means the same to the daemon.
        local protocols = { 'Sec-WebSocket-Protocol', pontoon_token }
        app.createWebsocket(pontoon_socket, pontoon_url .. '?title=' .. pontoon_title, protocols)
    else
        app.createWebsocket(pontoon_socket, pontoon_url)
    end

    local open, refused, why = false, false, nil
    local lasted, silent, since_heartbeat, complaints = 0, 0, 0, 0
    local function complain(message)
        complaints = complaints + 1
        if complaints <= 5 then
            log('Pontoon: ' .. message)
            pontoon_send({ type = 'error', message = pontoon_plain(message:sub(1, 200), 1) })
        end
    end

    while not why do
        -- The next frame of the app's; the number of seconds since the last one.
        local passed = tonumber(yield()) or 0.02
        lasted, silent, since_heartbeat = lasted + passed, silent + passed, since_heartbeat + passed

        local inbox, lost = pontoon_take()
        for line in inbox:gmatch('[^\n]+') do
            local kind, code, message = line:match('^(%S+) (%S*) (.*)$')
            silent = 0
            if kind == 'OnOpen' then
                open = true
                if not pontoon_token_in_request then
                    pontoon_send({ type = 'auth', token = pontoon_token, title = pontoon_title })
                end
            elseif kind == 'OnMessage' then
                local frame = pontoon_read(message)
                local wrong = 'a message that makes no sense'
                if frame then
                    wrong = pontoon_obey(frame)
                end
                if wrong then
                    complain(wrong)
                elseif frame.type == 'welcome' and not get('pontoon_admitted') then
                    set('pontoon_admitted', true)
                    log('Pontoon: connected as ' .. pontoon_title)
                end
            elseif code == '1008' or code == 'PolicyViolation' then
                refused, why = true, 'the daemon does not let us in (' .. message .. '): check pontoon_token'
            elseif kind == 'OnClose' or kind == 'OnError' then
                why = why or ('the connection ended (' .. code .. ' ' .. message .. ')')
            end
        end
        if lost > 0 then
            complain(lost .. ' messages were not read: too many or too long')
        end
        if open and since_heartbeat >= 15 then
            since_heartbeat, complaints = 0, 0
            pontoon_send({ type = 'heartbeat' })
        end
        if silent >= 45 then
            why = why or 'nothing was heard for 45 seconds'
        end
    end

    set('pontoon_admitted', false)
    app.removeWebSocket(pontoon_socket)
    return lasted, why, refused
end

return function()
    -- Once: each more would have the app report everything once more.
    addEvent('websocket', 'pontoon_on_socket')
    for _, event in ipairs(pontoon_events) do
        addEvent(event, 'pontoon_' .. event)
    end

    local app, pause = getApp(), 1
    while true do
        local lasted, why, refused = pontoon_connection(app)
        if refused then
            pause = 30
        elseif lasted >= 30 then
            pause = 1
        end
        log('Pontoon: ' .. why .. '. Trying again in ' .. pause .. ' s.')
        wait(pause)
        pause = math.min(pause * 2, 30)
    end
end
