//! Pontoon connector for MinChat: chats, messages and typing over Socket.IO.
