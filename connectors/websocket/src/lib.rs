//! Pontoon connector for any WebSocket service, by configuration alone.
