-- A stub of Stream Avatars: runs a script as the app does, and reports to the kit what it did.
--
-- The kit gives orders, one JSON object a line, on stdin. What the script does is reported on stdout, one object a line,
-- and then that the order is done. Time passes only by order, a frame at a time.
--
-- As in the app, every function that is called for an event is a coroutine with separate globals. The app's
-- documentation shows some that read a global of the script's, and states elsewhere that they cannot: here they cannot,
-- but for functions.

local json = require 'json'

-- How many steps a script may take without waiting; the real app would hang.
local STEPS = 20000000

local options = {}
local script = ''
local main = {}
local subscriptions = {}
local routines = {}
local now, passed = 0, 0

local function report(what)
    io.stdout:write(json.serialize(what), '\n')
end

-- ----- Objects of the app's -----

-- They can be asked for what they have, and nothing else: they cannot be walked through, counted or written.
local objects = setmetatable({}, { __mode = 'k' })

local function is_object(value)
    return objects[value] ~= nil
end

local function object(fields)
    local function refuse()
        error('this is an object of the app, not a table', 2)
    end
    local made = setmetatable({}, {
        __index = function(_, name)
            if fields[name] == nil then
                error('cannot access field ' .. tostring(name) .. ' of userdata', 2)
            end
            return fields[name]
        end,
        __newindex = refuse, __len = refuse, __pairs = refuse,
    })
    objects[made] = true
    return made
end

-- A value of an event: what has a display name is a user, what has a cost is a receipt.
local function app_value(value)
    if type(value) ~= 'table' then
        return value
    end
    local made = {}
    for key, inner in pairs(value) do
        made[key] = app_value(inner)
    end
    if value.displayName or value.cost then
        return object(made)
    end
    return made
end

-- ----- What scripts can call -----

local function serialize(value)
    return json.serialize(value, options.dialect, is_object)
end

local function parse(text)
    return json.parse(text, options.dialect)
end

-- What passes between two coroutines.
local function copied(value)
    if type(value) == 'table' and not is_object(value) then
        return parse(serialize(value))
    end
    return value
end

local function text_of(value)
    assert(type(value) == 'string', 'this must be text')
    return value
end

local start

local app = {}

function app.createWebsocket(title, url, protocols)
    report({ did = 'create', title = text_of(title), url = text_of(url), third = protocols })
    if options.opens_at_once then
        io.stdout:flush()
        if json.parse(io.read('*l')).opened then
            start('websocket', { title, 'OnOpen', '', '' }, 4)
        end
    end
end

function app.sendWebsocketMessage(title, text)
    report({ did = 'send', title = text_of(title), text = text_of(text) })
end

function app.removeWebSocket(title)
    report({ did = 'remove', title = text_of(title) })
end

local function environment()
    local env = {
        assert = assert, error = error, ipairs = ipairs, math = math, next = next, pairs = pairs, pcall = pcall,
        select = select, string = string, table = table, tonumber = tonumber, tostring = tostring,
    }
    env._G = env
    env.type = function(value) return is_object(value) and 'userdata' or type(value) end
    env.json = {
        serialize = function(value)
            assert(type(value) == 'table' and not is_object(value), 'bad argument: table expected')
            return serialize(value)
        end,
        parse = function(text) return parse(text_of(text)) end,
        null = function() return json.null end,
        isnull = function(value) return value == nil or value == json.null end,
    }
    env.getApp = function() return app end
    env.log = function(text) report({ did = 'log', text = tostring(text) }) end
    env.get = function(name) return copied(main[name]) end
    env.set = function(name, value) main[name] = copied(value) end
    env.wait = function(seconds) coroutine.yield(now + seconds) end
    env.yield = function()
        coroutine.yield(now)
        return passed
    end
    env.keepAlive = function() coroutine.yield(math.huge) end
    env.addEvent = function(event, name)
        subscriptions[#subscriptions + 1] = { event = text_of(event), name = text_of(name) }
        report({ did = 'addEvent', event = event, ['function'] = name })
    end
    env.runCommand = function(command, quiet)
        report({ did = 'runCommand', command = text_of(command), quiet = quiet == true })
    end
    env.writeChat = function(text) report({ did = 'writeChat', text = text_of(text) }) end
    return env
end

-- ----- Running it -----

-- The script with separate globals. Returns what it returns: the function to begin with.
local function run_script(env)
    return assert(load(script, 'script', 't', env))()
end

local function resume(routine, ...)
    debug.sethook(routine.thread, function() error('the script never waits', 0) end, '', STEPS)
    local ok, wake = coroutine.resume(routine.thread, ...)
    if not ok then
        report({ did = 'failed', error = debug.traceback(routine.thread, tostring(wake)) })
    end
    routine.wake = wake
    return ok and coroutine.status(routine.thread) ~= 'dead'
end

local function begin(body, ...)
    local routine = { thread = coroutine.create(body) }
    if resume(routine, ...) then
        routines[#routines + 1] = routine
    end
end

function start(event, values, count)
    for _, subscription in ipairs(subscriptions) do
        if subscription.event == event then
            local env = environment()
            begin(function(...)
                local own = {}
                for name in pairs(env) do
                    own[name] = true
                end
                run_script(env)
                for name, value in pairs(env) do
                    if not own[name] and type(value) ~= 'function' then
                        env[name] = nil
                    end
                end
                env[subscription.name](...)
            end, table.unpack(values, 1, count))
        end
    end
end

local orders = {}

-- The script from its beginning, as on F5.
function orders.load(order)
    options, script = order.options, order.script
    subscriptions, routines, main = {}, {}, environment()
    begin(function() run_script(main)() end)
end

-- Something happened.
function orders.fire(order)
    local values = app_value(order.values)
    start(order.event, values, order.count)
end

-- A frame: those who have waited long enough go on.
function orders.frame(order)
    now, passed = now + order.seconds, order.seconds
    local due = routines
    routines = {}
    for _, routine in ipairs(due) do
        if routine.wake > now or resume(routine) then
            routines[#routines + 1] = routine
        end
    end
end

for line in io.lines() do
    local order = json.parse(line)
    orders[order.order](order)
    report({ did = 'done' })
    io.stdout:flush()
end
