//! The admin side over a real socket, before a world that the test publishes.
