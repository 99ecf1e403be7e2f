//! The protocols, from their public documentation.

use serde_json::{Value, json};

use super::{Peer, Protocol, TOKEN};
use crate::websocket::Request;

fn nothing(_: &mut Peer<'_>) {}

/// A request whose query has another token.
fn wrong_query(request: &Request) -> bool {
    !request.query.iter().any(|(_, value)| value == TOKEN)
}

/// Discord's gateway: <https://docs.discord.com/developers/events/gateway>, and its opcodes and close codes.
pub const DISCORD: Protocol = Protocol {
    recipe: "discord",
    opened: |peer| peer.send(&json!({"op": 10, "d": {"heartbeat_interval": 45_000}, "s": null, "t": null})),
    message: discord,
    happens: |shared, id| {
        shared.sequence += 1;
        let d = json!({"id": id, "channel_id": "room", "content": "hi", "author": {"id": "u", "username": "ann"}});
        json!({"op": 0, "t": "MESSAGE_CREATE", "s": shared.sequence, "d": d}).to_string()
    },
    refuses: None,
};

fn discord(peer: &mut Peer<'_>, message: &Value) {
    let (d, signed_in) = (&message["d"], *peer.step > 0);
    match message["op"].as_u64() {
        Some(2 | 6) if signed_in => peer.breach(4005, "Already authenticated."),
        Some(2) if !d["intents"].is_u64() => peer.breach(4013, "Invalid intent(s)."),
        Some(2) => {
            if !peer.signs_in(&d["token"]) {
                return peer.connection.close(4004, "Authentication failed.");
            }
            peer.shared.sequence = 1;
            peer.send(&json!({"op": 0, "t": "READY", "s": 1, "d": {"session_id": "s-1"}}));
        }
        Some(6) if peer.shared.refuses => peer.connection.close(4004, "Authentication failed."),
        Some(6) if d["session_id"] == "s-1" && d["seq"].as_u64() <= Some(peer.shared.sequence) => {
            *peer.step = 1;
            peer.shared.resumed += 1;
            for missed in std::mem::take(&mut peer.shared.missed) {
                peer.connection.send_text(&missed);
            }
            let s = peer.shared.sequence + 1;
            peer.shared.sequence = s;
            peer.send(&json!({"op": 0, "t": "RESUMED", "s": s, "d": {}}));
        }
        Some(6) => peer.send(&json!({"op": 9, "d": false, "s": null, "t": null})),
        Some(1) => peer.send(&json!({"op": 11, "s": null, "t": null})),
        _ if !signed_in => peer.breach(4003, "Not authenticated."),
        _ => peer.breach(4001, "Unknown opcode."),
    }
}

/// Phoenix channels, serializer 2.0.0: <https://hexdocs.pm/phoenix/writing_a_channels_client.html>.
pub const PHOENIX: Protocol = Protocol {
    recipe: "phoenix",
    opened: nothing,
    message: |peer, message| {
        let [join, number, topic, event, payload] = [0, 1, 2, 3, 4].map(|at| message[at].clone());
        let reply = |status: &str, response: Value| json!([join, number, topic, "phx_reply", {"status": status, "response": response}]);
        match event.as_str() {
            Some("heartbeat") if topic == "phoenix" && join.is_null() => peer.send(&reply("ok", json!({}))),
            Some("phx_join") if *peer.step > 0 => {
                peer.shared.breaches.push("joined twice".to_owned());
                peer.send(&json!([join, number, topic, "phx_close", {}]));
            }
            Some("phx_join") => {
                *peer.step = 1;
                peer.shared.sign_ins += 1;
                peer.send(&reply("ok", json!({})));
            }
            Some(_) if *peer.step == 0 || join != "1" => {
                peer.shared.breaches.push(format!("not joined: {message}"));
                peer.send(&reply("error", json!({"reason": "unmatched topic"})));
            }
            Some(_) => peer.send(&reply("ok", payload)),
            None => peer.breach(1003, "not a message of the serializer"),
        }
    },
    happens: |_, id| {
        json!([null, null, "room", "new_msg", {"id": id, "user": "ann", "body": "hi"}]).to_string()
    },
    refuses: Some(wrong_query),
};

/// graphql-transport-ws: <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>.
pub const GRAPHQL: Protocol = Protocol {
    recipe: "graphql",
    opened: nothing,
    message: |peer, message| match (message["type"].as_str(), message["id"].as_str()) {
        (Some("connection_init"), _) if *peer.step > 0 => {
            peer.breach(4429, "Too many initialisation requests")
        }
        (Some("connection_init"), _) => {
            if peer.signs_in(&message["payload"]["Authorization"]) {
                peer.send(&json!({"type": "connection_ack"}));
            } else {
                peer.connection.close(4403, "Forbidden");
            }
        }
        (Some("ping"), _) => peer.send(&json!({"type": "pong"})),
        (Some("pong"), _) => {}
        (Some(_), _) if *peer.step == 0 => peer.breach(4401, "Unauthorized"),
        (Some("subscribe"), Some("messages")) if *peer.step > 1 => {
            peer.breach(4409, "Subscriber for messages already exists");
        }
        (Some("subscribe"), Some("messages")) => *peer.step = 2,
        (Some("subscribe"), Some(id)) => {
            peer.send(&json!({"id": id, "type": "next", "payload": {"data": {"done": true}}}));
            peer.send(&json!({"id": id, "type": "complete"}));
        }
        _ => peer.breach(4400, "Invalid message"),
    },
    happens: |_, id| {
        let added = json!({"id": id, "room": "room", "text": "hi"});
        json!({"id": "messages", "type": "next", "payload": {"data": {"messageAdded": added}}}).to_string()
    },
    refuses: None,
};

/// Pusher's protocol 7: <https://pusher.com/docs/channels/library_auth_reference/pusher-websockets-protocol/>.
pub const PUSHER: Protocol = Protocol {
    recipe: "pusher",
    opened: |peer| {
        if peer.shared.refuses {
            return peer.connection.close(4001, "Application does not exist");
        }
        let data = json!({"socket_id": "1.2", "activity_timeout": 120}).to_string();
        peer.send(&json!({"event": "pusher:connection_established", "data": data}));
    },
    message: |peer, message| match message["event"].as_str() {
        Some("pusher:subscribe") if *peer.step > 0 => {
            peer.shared.breaches.push("subscribed twice".to_owned());
            let data = json!({"code": null, "message": "Existing subscription to channel lobby"});
            peer.send(&json!({"event": "pusher:error", "data": data}));
        }
        Some("pusher:subscribe") => {
            *peer.step = 1;
            peer.shared.sign_ins += 1;
            let channel = &message["data"]["channel"];
            peer.send(
                &json!({"event": "pusher_internal:subscription_succeeded", "channel": channel, "data": "{}"}),
            );
        }
        Some("pusher:ping") => peer.send(&json!({"event": "pusher:pong", "data": {}})),
        Some("pusher:pong") => {}
        _ => peer.breach(4009, "not a message of the protocol"),
    },
    happens: |_, id| {
        let data = json!({"id": id, "user": "ann", "text": "hi"}).to_string();
        json!({"event": "message", "channel": "room", "data": data}).to_string()
    },
    refuses: None,
};

/// Home Assistant: <https://developers.home-assistant.io/docs/api/websocket>.
pub const HOME_ASSISTANT: Protocol = Protocol {
    recipe: "homeassistant",
    opened: |peer| peer.send(&json!({"type": "auth_required", "ha_version": "2025.1.0"})),
    message: |peer, message| {
        let id = message["id"].as_u64();
        match message["type"].as_str() {
            Some("auth") if *peer.step == 0 => {
                if peer.signs_in(&message["access_token"]) {
                    peer.send(&json!({"type": "auth_ok", "ha_version": "2025.1.0"}));
                } else {
                    peer.send(
                        &json!({"type": "auth_invalid", "message": "Invalid access token or password"}),
                    );
                    peer.connection.close(1000, "");
                }
            }
            _ if *peer.step == 0 => peer.breach(1008, "the sign-in comes first"),
            // Ids increase; the step is the last one, with one added.
            Some(kind) if id >= Some(*peer.step as u64) => {
                *peer.step = usize::try_from(id.unwrap_or_default()).unwrap_or_default() + 1;
                let answer = if kind == "ping" { "pong" } else { "result" };
                peer.send(&json!({"id": id, "type": answer, "success": true, "result": null}));
            }
            _ => {
                peer.shared.breaches.push(format!("id_reuse: {message}"));
                let error = json!({"code": "id_reuse", "message": "Identifier values have to increase."});
                peer.send(&json!({"id": id, "type": "result", "success": false, "error": error}));
            }
        }
    },
    happens: |_, id| {
        let data = json!({"entity_id": "room", "old_state": {"state": "off"}, "new_state": {"state": id}});
        json!({"id": 1, "type": "event", "event": {"data": data}}).to_string()
    },
    refuses: None,
};

/// JSON-RPC 2.0: <https://www.jsonrpc.org/specification>.
pub const JSON_RPC: Protocol = Protocol {
    recipe: "jsonrpc",
    opened: |peer| peer.shared.sign_ins += 1,
    message: |peer, message| {
        if message["jsonrpc"] != "2.0" || !message["method"].is_string() {
            peer.shared.breaches.push(format!("-32600 {message}"));
            let error = json!({"code": -32600, "message": "Invalid Request"});
            return peer.send(&json!({"jsonrpc": "2.0", "id": null, "error": error}));
        }
        // In a batch, beside a notification.
        let note = json!({"jsonrpc": "2.0", "method": "note"});
        peer.send(&json!([note, {"jsonrpc": "2.0", "id": message["id"], "result": 3}]));
    },
    happens: |_, id| {
        let params = json!({"room": "room", "id": id, "text": "hi"});
        json!({"jsonrpc": "2.0", "method": "message", "params": params}).to_string()
    },
    refuses: Some(|request| request.header("authorization") != Some("Bearer hunter2")),
};

/// SignalR's JSON hub protocol: <https://github.com/dotnet/aspnetcore/blob/main/src/SignalR/docs/specs/HubProtocol.md>.
pub const SIGNALR: Protocol = Protocol {
    recipe: "signalr",
    opened: nothing,
    message: |peer, message| {
        let send = |value: &Value| peer.connection.send_text(&format!("{value}\u{1e}"));
        match message["type"].as_u64() {
            None if *peer.step == 0 && message["protocol"] == "json" && message["version"] == 1 => {
                // What follows may share its frame.
                peer.connection.send_text("{}\u{1e}{\"type\":6}\u{1e}");
                *peer.step = 1;
                peer.shared.sign_ins += 1;
            }
            None => {
                send(&json!({"error": "Handshake was canceled."}));
                peer.breach(1000, "no handshake");
            }
            Some(_) if *peer.step == 0 => peer.breach(1000, "no handshake"),
            Some(1) => {
                if let Some(id) = message["invocationId"].as_str() {
                    send(&json!({"type": 3, "invocationId": id, "result": 3}));
                }
            }
            Some(6) => {}
            Some(_) => {
                send(&json!({"type": 7, "error": "unknown message type"}));
                peer.breach(1000, "unknown message type");
            }
        }
    },
    happens: |_, id| {
        let invocation = json!({"type": 1, "target": "ReceiveMessage", "arguments": ["room", "ann", id]});
        format!("{invocation}\u{1e}{{\"type\":6}}\u{1e}")
    },
    refuses: Some(wrong_query),
};

/// Binance's market streams: <https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams>.
pub const MARKET: Protocol = Protocol {
    recipe: "market",
    opened: nothing,
    message: |peer, message| match message["method"].as_str() {
        Some("SUBSCRIBE") if message["id"].is_u64() && message["params"].is_array() => {
            peer.shared.sign_ins += 1;
            peer.send(&json!({"result": null, "id": message["id"]}));
        }
        Some("LIST_SUBSCRIPTIONS") => peer.send(&json!({"result": ["btcusdt@trade"], "id": message["id"]})),
        _ => {
            peer.shared.breaches.push(message.to_string());
            peer.send(&json!({"error": {"code": 2, "msg": "Invalid request"}, "id": message["id"]}));
        }
    },
    happens: |_, id| {
        json!({"e": "trade", "s": "room", "t": id, "p": "0.001", "q": "1", "T": 1_700_000_000_123_u64, "m": true})
            .to_string()
    },
    refuses: None,
};
