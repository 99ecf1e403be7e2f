//! Pontoon connector for AUI: tasks and streamed answers over WebSockets.
