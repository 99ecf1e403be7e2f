//! The default of every setting. `config/pontoon.toml` shows them; a test compares the two.

use pontoon_sdk::{Size, Span};

use super::{
    Admin, Cluster, Commands, Delivery, DeliveryMode, Durability, EventMode, Events, Jobs, Log, LogFormat,
    Nats, NatsTls, OnNatsLoss, Ordering, Overflow, Shutdown, Spool, Tls, Transport, Urls,
};

impl Default for Nats {
    fn default() -> Self {
        Self {
            url: Urls::One("nats://127.0.0.1:4222".into()),
            prefix: "pontoon".into(),
            user: None,
            password: None,
            token: None,
            nkey: None,
            credentials: None,
            context: None,
            jetstream_domain: None,
            jetstream_api_prefix: None,
            inbox_prefix: None,
            user_jwt: None,
            user_seed: None,
            tls: NatsTls::default(),
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { mode: EventMode::Binary, raw: true }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            mode: DeliveryMode::Jetstream,
            provision: true,
            ordering: Ordering::Strict,
            message_id: false,
            stream: None,
            replicas: 1,
            max_bytes: Size::mib(64),
            max_age: Span::seconds(72 * 3600),
            max_messages: None,
            buffer: Size::mib(64),
            buffer_events: 262_144,
            max_pause: Span::seconds(10),
            overflow: Overflow::DropNewest,
            spool: Spool::default(),
        }
    }
}

impl Default for Spool {
    fn default() -> Self {
        Self { path: None, size: Size::mib(1024), durability: Durability::Process }
    }
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            timeout: Span::seconds(10),
            max_timeout: Span::seconds(300),
            max_in_flight: 256,
            max_body: Size::mib(1),
            idempotency_keys: 32_768,
            idempotency_bytes: Size::mib(32),
            idempotency_time: Span::seconds(600),
            reply_prefixes: vec!["_INBOX.".into()],
        }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            enabled: true,
            stream: "PONTOON_JOBS".into(),
            results: "PONTOON_RESULTS".into(),
            max_bytes: Size::mib(4),
            max_age: Span::seconds(24 * 3600),
            max_in_flight: 16,
            expires: Span::seconds(60),
        }
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            enabled: false,
            ttl: Span::seconds(5),
            name: None,
            weight: 1,
            labels: Vec::new(),
            moves: 30,
            on_nats_loss: OnNatsLoss::StepDown,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: "127.0.0.1:9464".into(),
            hosts: Vec::new(),
            token: None,
            commands: false,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { timeout: Span::seconds(20) }
    }
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            tls: Tls::default(),
            proxy: None,
            user_agent: None,
            connect_timeout: Span::seconds(10),
            ping_interval: Span::seconds(15),
            write_timeout: Span::seconds(10),
            message_limit: Size::mib(1),
            max_silence: None,
            refused_codes: vec![3000, 3003, 4401, 4403],
            slow_codes: vec![4429],
            send_buffer: Size::mib(4),
            send_rate: None,
            max_links: 1024,
        }
    }
}
