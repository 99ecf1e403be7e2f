//! Pontoon connector for any Socket.IO service, by configuration alone.
