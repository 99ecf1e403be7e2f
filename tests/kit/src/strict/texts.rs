//! The protocols whose messages are texts, or are acknowledged, or only come; from their public documentation.

use serde_json::{Value, json};

use super::{Peer, Protocol};

/// STOMP 1.2: <https://stomp.github.io/stomp-specification-1.2.html>, as RabbitMQ has it.
pub const STOMP: Protocol = Protocol {
    recipe: "stomp",
    opened: |_| {},
    message: |peer, message| stomp(peer, message.as_str().unwrap_or_default()),
    happens: |shared, id| {
        shared.unacknowledged.push(format!("ack-{id}"));
        format!("MESSAGE\nsubscription:0\ndestination:/queue/room\nmessage-id:{id}\nack:ack-{id}\n\nhi\0")
    },
    refuses: None,
};

fn stomp(peer: &mut Peer<'_>, text: &str) {
    if text == "\n" {
        return;
    }
    let Some((head, _)) = text.strip_suffix('\0').and_then(|frame| frame.split_once("\n\n")) else {
        return peer.breach(1002, "not a frame of STOMP");
    };
    let mut lines = head.lines();
    let command = lines.next().unwrap_or_default();
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    match (command, *peer.step) {
        ("CONNECT", 0) if header("accept-version") == Some("1.2") && header("host").is_some() => {
            if peer.signs_in(&header("passcode").unwrap_or_default().into()) {
                peer.connection.send_text("CONNECTED\nversion:1.2\nheart-beat:10000,10000\n\n\0");
            } else {
                peer.connection
                    .send_text("ERROR\nmessage:Bad CONNECT\n\nAccess refused for user 'bridge'\n\0");
                peer.connection.close(1000, "");
            }
        }
        ("SUBSCRIBE", 1) if header("id").is_some() && header("ack") == Some("client-individual") => {
            *peer.step = 2
        }
        ("ACK", 2) => peer.acknowledged(header("id").unwrap_or_default()),
        ("SEND", 1 | 2) if header("destination").is_some() => {
            if let Some(receipt) = header("receipt") {
                peer.connection.send_text(&format!("RECEIPT\nreceipt-id:{receipt}\n\n\0"));
            }
        }
        (command, step) => peer.breach(1002, &format!("{command} at step {step}")),
    }
}

/// IRC as Twitch's chat has it: <https://dev.twitch.tv/docs/chat/irc/>.
pub const IRC: Protocol = Protocol {
    recipe: "irc",
    opened: |_| {},
    message: |peer, message| irc(peer, message.as_str().unwrap_or_default()),
    happens: |_, id| {
        format!(
            "@display-name=Ann;id={id};tmi-sent-ts=1700000000123;user-id=7 :ann!ann@ann.tmi.twitch.tv PRIVMSG #room :hi\r\n\
             PING :tmi.twitch.tv\r\n"
        )
    },
    refuses: None,
};

fn irc(peer: &mut Peer<'_>, line: &str) {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    let send = |peer: &Peer<'_>, line: &str| peer.connection.send_text(&format!("{line}\r\n"));
    match (command, *peer.step) {
        ("CAP", 0) => send(peer, &format!(":tmi.twitch.tv CAP * ACK {}", rest.trim_start_matches("REQ "))),
        ("PASS", 0) => {
            if !peer.signs_in(&rest.into()) {
                send(peer, ":tmi.twitch.tv NOTICE * :Login authentication failed");
                peer.connection.close(1000, "");
            }
        }
        // What follows a refused token is not looked at.
        ("NICK", 1) if peer.shared.refuses => {}
        ("NICK", 1) => {
            *peer.step = 2;
            send(peer, &format!(":tmi.twitch.tv 001 {rest} :Welcome, GLHF!\r\n:tmi.twitch.tv 376 {rest} :>"));
        }
        ("JOIN", 2) if rest.starts_with('#') => {
            send(peer, &format!(":pontoon!pontoon@pontoon.tmi.twitch.tv JOIN {rest}"));
        }
        ("PRIVMSG", 2) if rest.starts_with('#') && rest.contains(" :") => {}
        ("PONG", 2) if rest == ":tmi.twitch.tv" => {}
        (_, step) => peer.breach(1002, &format!("{line} at step {step}")),
    }
}

/// Twitch's EventSub: <https://dev.twitch.tv/docs/eventsub/handling-websocket-events/>.
pub const EVENTSUB: Protocol = Protocol {
    recipe: "eventsub",
    opened: |peer| {
        peer.shared.sign_ins += 1;
        let session = json!({"id": "s-1", "status": "connected", "keepalive_timeout_seconds": 10, "reconnect_url": null});
        peer.send(&metadata("welcome", "session_welcome", &json!({"session": session})));
        peer.send(&metadata("keepalive", "session_keepalive", &json!({})));
    },
    message: |peer, _| peer.breach(4001, "client sent inbound traffic"),
    happens: |_, id| {
        let event = json!({"broadcaster_user_login": "room", "user_login": "ann"});
        let subscription = json!({"id": "f-1", "type": "channel.follow", "status": "enabled"});
        metadata(id, "notification", &json!({"subscription": subscription, "event": event})).to_string()
    },
    refuses: None,
};

fn metadata(id: &str, kind: &str, payload: &Value) -> Value {
    let metadata = json!({"message_id": id, "message_type": kind, "message_timestamp": "2023-07-19T14:56:51.616329898Z"});
    json!({"metadata": metadata, "payload": payload})
}

/// Slack's Socket Mode: <https://docs.slack.dev/apis/events-api/using-socket-mode/>.
pub const SLACK: Protocol = Protocol {
    recipe: "slack",
    opened: |peer| {
        peer.shared.sign_ins += 1;
        peer.send(&json!({"type": "hello", "num_connections": 1, "connection_info": {"app_id": "A1"}}));
    },
    message: |peer, message| match message["envelope_id"].as_str() {
        Some(id) => peer.acknowledged(id),
        None => peer.breach(1008, "not an acknowledgement"),
    },
    happens: |shared, id| {
        shared.unacknowledged.push(format!("envelope-{id}"));
        let event = json!({"type": "message", "channel": "room", "user": "U1", "text": "hi", "ts": "1700000000.000100"});
        let payload = json!({"type": "event_callback", "team_id": "T1", "event_id": id, "event": event});
        json!({"envelope_id": format!("envelope-{id}"), "type": "events_api", "accepts_response_payload": false, "payload": payload})
            .to_string()
    },
    // The address works once, by its ticket.
    refuses: Some(|request| request.parameter("ticket").is_none()),
};
