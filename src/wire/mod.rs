//! HTTP/1.1 messages over sockets, for both sides: the codec of `http1` driven by readiness, without a task of its own.
//! Who may connect, what a message means and how long to wait is for `edge` and `upstream` to say.

pub mod http2;
mod io;
mod sender;
pub mod socket;
pub mod spare;
mod timer;

pub use http2::Link;
pub use io::Io;
pub use sender::{Mode, SendError, Sender};
pub use timer::Timer;
