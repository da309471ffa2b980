//! Secrets: values that are never printed, and those a node makes for itself.
//!
//! Owns the redacted type and the files of generated secrets in the data folder. Never logs or
//! shows a secret.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

/// Bytes of a generated secret: the 256 bits HMAC-SHA256 can use.
const GENERATED_BYTES: usize = 32;

/// Fewest bytes of a secret that cannot be guessed by trying; shorter ones are warned about.
pub const SECRET_BYTES_MIN: usize = 32;

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself: for keys and for what a user asked to see, never for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it is shorter than [`SECRET_BYTES_MIN`].
    pub const fn is_weak(&self) -> bool {
        self.0.len() < SECRET_BYTES_MIN
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Why a generated secret could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The folder or the file cannot be read or written.
    #[error("cannot keep a secret in {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is there but holds nothing that was generated here.
    #[error("{} is not a secret written by this program; it is left as it is", .0.display())]
    Damaged(PathBuf),
    /// The system has no randomness to give.
    #[error("the system gave no randomness")]
    Random,
}

/// Draws a new secret of 256 bits, as base64url text.
///
/// # Errors
/// `Random` where the system's source fails.
pub fn generate() -> Result<Secret, SecretError> {
    let mut bytes = [0_u8; GENERATED_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| SecretError::Random)?;
    Ok(Secret(URL_SAFE_NO_PAD.encode(bytes)))
}

/// Reads the secret `name` in the folder, or draws it and keeps it there, readable by the owner
/// alone.
///
/// # Errors
/// `Io` with the file's path; `Damaged` where the file holds something else.
pub fn load_or_create(folder: &Path, name: &str) -> Result<Secret, SecretError> {
    let path = folder.join(name);
    let failed = |source| SecretError::Io {
        path: path.clone(),
        source,
    };
    if let Some(secret) = read(&path)? {
        return Ok(secret);
    }
    fs::create_dir_all(folder).map_err(failed)?;
    let secret = generate()?;
    // Written aside and linked into place: another process sees all of it or nothing, and the
    // first of two wins.
    let aside = folder.join(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .map_err(failed)?;
    file.write_all(secret.expose().as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let linked = fs::hard_link(&aside, &path);
    fs::remove_file(&aside).map_err(failed)?;
    match linked {
        Ok(()) => Ok(secret),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read(&path)?.ok_or(SecretError::Damaged(path))
        }
        Err(error) => Err(failed(error)),
    }
}

fn read(path: &Path) -> Result<Option<Secret>, SecretError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = text.trim_end();
            let whole = URL_SAFE_NO_PAD
                .decode(text)
                .is_ok_and(|bytes| bytes.len() == GENERATED_BYTES);
            if whole {
                Ok(Some(Secret(text.to_owned())))
            } else {
                Err(SecretError::Damaged(path.to_owned()))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SecretError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}
