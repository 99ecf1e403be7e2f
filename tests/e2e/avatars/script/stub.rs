//! The stub itself: that it is as hard on scripts as the app.

use super::*;

/// `None` where there may be no Lua.
async fn run(script: &str) -> Option<LuaApp> {
    if !LuaApp::available() {
        return None;
    }
    Some(LuaApp::start(&LuaScript::new(script)).await)
}

#[tokio::test]
async fn functions_of_events_share_variables_through_get_and_set_only() {
    let Some(app) = run(r"
        shared, kept = { list = { 1 }, url = 'a' }, 0
        function on_raid(name)
            log(tostring(shared) .. ' ' .. tostring(kept))
            local copy = get('shared')
            copy.list[1] = 2
            kept = 5
            set('kept', get('kept') + 1)
            log(name .. get('shared').list[1] .. get('kept'))
        end
        return function()
            addEvent('raid', 'on_raid')
            addEvent('raid', 'on_raid')
            wait(1)
            log('main ' .. kept)
        end
    ")
    .await
    else {
        return;
    };
    app.fire("raid", json!(["Ann"])).await;
    app.advance(1.1).await;
    assert_eq!(app.log(), ["nil nil", "Ann11", "nil nil", "Ann12", "main 2"]);
    assert_eq!(app.failures(), [""; 0]);
}

#[tokio::test]
async fn functions_that_wait_run_at_the_same_time() {
    let Some(app) = run(r"
        function on_raid(name)
            log('begins ' .. name)
            wait(2)
            log('ends ' .. name)
        end
        return function()
            addEvent('raid', 'on_raid')
            local passed = 0
            while passed < 3 do passed = passed + yield() end
            log('three seconds')
            keepAlive()
        end
    ")
    .await
    else {
        return;
    };
    app.fire("raid", json!(["Ann"])).await;
    app.advance(1.0).await;
    app.fire("raid", json!(["Ben"])).await;
    assert_eq!(app.log(), ["begins Ann", "begins Ben"]);
    app.advance(2.5).await;
    assert_eq!(app.log()[2..], ["ends Ann", "three seconds", "ends Ben"]);
}

#[tokio::test]
async fn json_is_what_the_interpreter_of_the_app_makes_of_it() {
    let script = r#"
        url = { at = 'ws://a' }
        return function()
            log(json.serialize({ url = 'a/b' }))
            log(json.serialize({ 'a', 'b', c = 'd' }))
            log(json.serialize({}))
            for _, text in ipairs({ '{"a":"\\/"}', '{"a":"\\u0041"}', '"a"', '{"a":', '{"a":[1,-2.5,true,null]}' }) do
                local ok, value = pcall(json.parse, text)
                log(ok and json.serialize(value) or 'error')
            end
            log(tostring(pcall(get, 'url')))
        end
    "#;
    let Some(app) = run(script).await else { return };
    let expected = [
        r#"{"url":"a\/b"}"#,
        r#"["a","b"]"#,
        "{}",
        "error",
        "error",
        "error",
        "error",
        r#"{"a":[1,-2.5,true,null]}"#,
        "false",
    ];
    assert_eq!(app.log(), expected);
    let good = LuaApp::options().good_json().start(&LuaScript::new(script)).await;
    let expected = [r#"{"url":"a/b"}"#, r#"["a","b"]"#, "{}", r#"{"a":"/"}"#, r#"{"a":"A"}"#];
    assert_eq!(
        (&good.log()[..5], good.log().last().unwrap().as_str()),
        (&expected.map(String::from)[..], "true")
    );
}

#[tokio::test]
async fn objects_of_the_app_have_only_fields() {
    let Some(app) = run(r"
        function on_raid(user)
            log(type(user) .. ' ' .. user.displayName)
            log(tostring(pcall(function() return user.nothing end)))
            log(tostring(pcall(function() return #user end)))
            log(tostring(pcall(pairs, user)))
            log(tostring(pcall(json.serialize, user)))
            log(json.serialize({ user = user, users = { user } }))
        end
        return function()
            addEvent('raid', 'on_raid')
        end
    ")
    .await
    else {
        return;
    };
    app.fire("raid", json!([{ "displayName": "Ann" }])).await;
    assert_eq!(app.log()[..5], ["userdata Ann", "false", "false", "false", "false"]);
    assert_eq!(app.log()[5], r#"{"users":[]}"#);
}

#[tokio::test]
async fn an_error_ends_the_function_and_not_the_app() {
    let Some(app) = run(r"
        function on_raid() error('broken') end
        function on_spawn() while true do end end
        return function()
            addEvent('raid', 'on_raid')
            addEvent('spawn', 'on_spawn')
            wait(1)
            log('goes on')
        end
    ")
    .await
    else {
        return;
    };
    app.fire("raid", json!([])).await;
    app.fire("spawn", json!([])).await;
    app.advance(1.1).await;
    let failures = app.failures();
    assert_eq!((failures.len(), app.log()), (2, vec!["goes on".to_owned()]), "{failures:?}");
    assert!(failures[0].contains("broken") && failures[1].contains("never waits"), "{failures:?}");
}

#[tokio::test]
async fn time_can_pass_by_itself() {
    if !LuaApp::available() {
        return;
    }
    let script = LuaScript::new("return function() wait(30) log('half a minute') end");
    let app = LuaApp::options().speed(1_000.0).start(&script).await;
    eventually(DEADLINE, async || app.log() == ["half a minute"]).await;
}

#[test]
fn a_script_is_filled_in_as_a_streamer_does() {
    let script = LuaScript::new("url = 'ws://a/'\nlist = {\n    'a',\n}\nfunction f()\n    list = {}\nend\n");
    let script = script.text("url", "it's\\").code("list", "{ 'b' }");
    assert_eq!(script.as_str(), "url = 'it\\'s\\\\'\nlist = { 'b' }\nfunction f()\n    list = {}\nend\n");
    let missing = std::panic::catch_unwind(|| script.text("token", ""));
    assert!(missing.is_err());
}
