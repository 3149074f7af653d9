//! HTTP/1.1 messages over sockets, for both sides: the codec of `http1` driven by readiness, without a task of its own.
//! Who may connect, what a message means and how long to wait is for `edge` and `upstream` to say.

mod frames;
mod gathered;
mod io;
mod outflow;
mod rewound;
mod sender;
pub mod socket;
pub mod spare;
mod timer;

pub use frames::Frames;
pub use gathered::{Driven, Gathered, Outlet, gathered};
pub use io::Io;
pub use outflow::Outflow;
pub use rewound::Rewound;
pub use sender::{Mode, SendError, Sender};
pub use timer::Timer;
