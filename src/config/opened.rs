//! The files that the client of Consul's agent opens once, at the start: says of each why a start would end by it. A
//! gateway that runs does without them, so that one which is missing for a while refuses no reload.

use std::{fs, os::unix::fs::FileTypeExt, path::Path};

use super::{check::At, consul::Consul, https::Pair, pem};
use crate::consul::{Error, Token};

/// Opens the files that `[consul]` names. `at` is its place.
pub fn judge(consul: &Consul, at: &At<'_>) {
    if let Some(file) = &consul.token_file {
        at.key("token_file").take(token(file));
    }
    let at = at.key("tls");
    if let Some(file) = &consul.tls.ca {
        at.key("ca").take(pem::authorities(file));
    }
    if let Some((cert, key)) = consul.tls.client.clone() {
        Pair { cert, key }.judge(&at);
    }
}

fn token(file: &Path) -> Result<(), String> {
    // What is read from a pipe is gone for who needs it.
    if fs::metadata(file).is_ok_and(|found| found.file_type().is_fifo()) {
        return Ok(());
    }
    match Token::new(None, Some(file.to_owned())) {
        Ok(_) => Ok(()),
        Err(Error::Token { .. }) => {
            let file = file.display();
            Err(format!(
                "`{file}` holds no token: expected visible ASCII letters, at least one, and nothing between them"
            ))
        }
        Err(error) => Err(error.causes()),
    }
}
