//! The token: given, or read from a file again when that changes.

use std::{path::PathBuf, sync::Mutex, sync::PoisonError, time::Duration};

use reqwest::header::HeaderValue;
use tokio::time::Instant;

use super::error::Error;

/// Where the token comes from.
#[derive(Debug)]
pub struct Token {
    file: Option<PathBuf>,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    header: Option<HeaderValue>,
    read: Instant,
}

impl Token {
    /// A token, a file that has it (which wins), or none.
    ///
    /// # Errors
    /// `Token` for one that no header can hold, `File` for a file that cannot be read.
    pub fn new(token: Option<&str>, file: Option<PathBuf>) -> Result<Self, Error> {
        let header = match &file {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let setting = "token_file";
                let text = text.map_err(|source| Error::File { setting, path: path.clone(), source: source.into() })?;
                Some(header(setting, &text)?)
            }
            None => token.map(|token| header("token", token)).transpose()?,
        };
        Ok(Self { file, last: Mutex::new(Last { header, read: Instant::now() }) })
    }

    /// The token to send now. A file is looked at once a second at most; while it cannot be used, the last token is.
    pub async fn current(&self) -> Option<HeaderValue> {
        let now = Instant::now();
        let due = {
            let mut last = self.last();
            let due = self.file.as_ref().filter(|_| now.duration_since(last.read) >= LOOK);
            if due.is_none() {
                return last.header.clone();
            }
            last.read = now;
            due
        };
        if let Some(path) = due {
            let read = tokio::fs::read_to_string(path).await;
            match read
                .map_err(|source| source.to_string())
                .and_then(|text| header("token_file", &text).map_err(|e| e.to_string()))
            {
                Ok(header) => self.last().header = Some(header),
                Err(error) => tracing::warn!(path = %path.display(), error, "the last token is kept"),
            }
        }
        self.last().header.clone()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn header(setting: &'static str, token: &str) -> Result<HeaderValue, Error> {
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Error::Token { setting });
    }
    let mut header = HeaderValue::from_str(token).map_err(|_| Error::Token { setting })?;
    header.set_sensitive(true);
    Ok(header)
}

const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_file_wins_and_is_read_again() {
        tokio::time::pause();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " first\n").unwrap();
        let token = Token::new(Some("given"), Some(file.path().to_owned())).unwrap();
        assert_eq!(token.current().await.unwrap(), "first");
        std::fs::write(file.path(), "second").unwrap();
        tokio::time::advance(LOOK).await;
        assert_eq!(token.current().await.unwrap(), "second");
        // Half-written, then gone: the last one is better than none.
        std::fs::write(file.path(), "").unwrap();
        tokio::time::advance(LOOK).await;
        assert_eq!(token.current().await.unwrap(), "second");
        std::fs::remove_file(file.path()).unwrap();
        tokio::time::advance(LOOK).await;
        assert_eq!(token.current().await.unwrap(), "second");
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_sent_is_refused_and_none_is_shown() {
        for bad in ["", "  ", "a b", "a\nb", "é"] {
            assert!(matches!(Token::new(Some(bad), None), Err(Error::Token { setting: "token" })), "{bad:?}");
        }
        assert!(matches!(Token::new(None, Some("/nowhere/at/all".into())), Err(Error::File { .. })));
        assert!(!format!("{:?}", Token::new(Some("s3cret"), None).unwrap()).contains("s3cret"));
        assert!(Token::new(None, None).unwrap().current().await.is_none());
    }
}
