//! The API in process: every call goes through the whole service, nothing through a socket.

mod tokens;
