-- JSON, as it should be and as the interpreter in the app has it.
--
-- A dialect is 'good' or 'app' for scripts, and none for the line to the kit. The app's reads what is in quotes with
-- the rules of Lua: "\/" and "\u0041" are errors to it. It writes "/" as "\/" and leaves most control characters as
-- they are. In all of them, a table with numbered members is a list and loses the named ones; what cannot be written
-- is left out.

local json = {}

-- Stands for null where a script must be able to see it.
json.null = setmetatable({}, { __tostring = function() return 'null' end })

local short = {
    ['\\'] = '\\\\', ['"'] = '\\"', ['\b'] = '\\b', ['\f'] = '\\f', ['\n'] = '\\n', ['\r'] = '\\r', ['\t'] = '\\t',
}
local long = { ['\\'] = '\\', ['"'] = '"', b = '\b', f = '\f', n = '\n', r = '\r', t = '\t' }

local function quoted(text, dialect)
    local escaped = text:gsub('[%c\\"]', function(char)
        return short[char] or (dialect ~= 'app' and ('\\u%04x'):format(char:byte())) or nil
    end)
    if dialect == 'app' then
        escaped = escaped:gsub('/', '\\/')
    end
    return '"' .. escaped .. '"'
end

local function number(value)
    if value == math.floor(value) and math.abs(value) < 2 ^ 53 then
        return ('%d'):format(value)
    end
    return ('%.17g'):format(value)
end

local written = { string = true, number = true, boolean = true, table = true }

-- What may be written; `opaque` holds the tables that are objects of the app.
function json.serialize(value, dialect, opaque)
    local kind = type(value)
    if value == json.null or value == nil then
        return 'null'
    elseif kind == 'string' then
        return quoted(value, dialect)
    elseif kind == 'number' then
        return number(value)
    elseif kind == 'boolean' then
        return tostring(value)
    end
    local parts = {}
    local function writable(inner)
        return written[type(inner)] and not (opaque and opaque(inner))
    end
    if #value > 0 then
        for _, inner in ipairs(value) do
            if writable(inner) then
                parts[#parts + 1] = json.serialize(inner, dialect, opaque)
            end
        end
        return '[' .. table.concat(parts, ',') .. ']'
    end
    for name, inner in pairs(value) do
        if type(name) == 'string' and writable(inner) then
            parts[#parts + 1] = quoted(name, dialect) .. ':' .. json.serialize(inner, dialect, opaque)
        end
    end
    return '{' .. table.concat(parts, ',') .. '}'
end

-- Lua 5.2, whose language the app's is, has no utf8.
local char_of = utf8 and utf8.char or string.char

local function unescaped(text, dialect)
    if dialect == 'app' then
        return (text:gsub('\\(.)', function(char)
            return long[char] or error("invalid escape sequence near '\\" .. char .. "'", 0)
        end))
    end
    return (text:gsub('\\(.)([^\\]*)', function(char, rest)
        -- What the kit writes has no pairs of surrogates.
        if char == 'u' then
            return char_of(tonumber(rest:sub(1, 4), 16)) .. rest:sub(5)
        end
        return (long[char] or char) .. rest
    end))
end

-- The table or value in the text. Throws if there is none.
function json.parse(text, dialect)
    local place = 1

    local function next_is(pattern)
        local _, last, found = text:find('^%s*(' .. pattern .. ')', place)
        if last then
            place = last + 1
        end
        return found
    end

    local function unexpected()
        error("unexpected token : '" .. text:sub(place, place + 10) .. "'", 0)
    end

    local function string_value()
        local from = place
        repeat
            local quote = text:find('["\\]', place) or unexpected()
            local escape = text:sub(quote, quote) == '\\'
            place = quote + (escape and 2 or 1)
        until not escape
        return unescaped(text:sub(from, place - 2), dialect)
    end

    local value

    local function members(close, add)
        while not next_is(close) do
            add()
            if not next_is(',') and not text:find('^%s*' .. close, place) then
                unexpected()
            end
        end
    end

    function value()
        if next_is('"') then
            return string_value()
        elseif next_is('{') then
            local object = {}
            members('}', function()
                local name = next_is('"') and string_value() or unexpected()
                if not next_is(':') then
                    unexpected()
                end
                object[name] = value()
            end)
            return object
        elseif next_is('%[') then
            local list, count = {}, 0
            members('%]', function()
                count = count + 1
                list[count] = value()
            end)
            return list
        end
        local word = next_is('-?[%w.]+[%w.+-]*')
        if word == 'true' or word == 'false' then
            return word == 'true'
        elseif word == 'null' then
            -- Spelt out, since `and` and `or` would lose a nil.
            if dialect then
                return json.null
            end
            return nil
        end
        return word and tonumber(word) or unexpected()
    end

    if dialect and not text:find('^%s*[{%[]') then
        unexpected()
    end
    return value()
end

return json
