//! Users from a password file with bcrypt hashes, read again when it changes.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bcrypt::HashParts;
use tokio::sync::Semaphore;

use super::followed::Followed;
use super::remembered::Remembered;

/// Cost of the work for unknown users when the file has no user at all.
const DEFAULT_COST: u32 = 10;
/// How long a password that was found right is believed, so that bcrypt runs once in some minutes for each.
const LIFETIME: Duration = Duration::from_secs(5 * 60);
/// How many passwords may be verified or wait for it, for each that is verified at the same time. At the usual cost that
/// is some seconds of waiting.
const MOST_PER_SLOT: usize = 64;
/// Salt and hash of no password, in bcrypt's alphabet.
const NO_PASSWORD: &str = "abcdefghijklmnopqrstuuKkzxJp7IWbeZbkUYQzoWYnPgVLcEy0m";

/// A password file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("read password file {}", path.display())]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("no random numbers for the key of verified passwords")]
    Random,
}

/// So many passwords wait to be verified that one more would wait for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overloaded;

/// Whether `user` can stand in a password file.
#[must_use]
pub fn is_valid_user(user: &str) -> bool {
    !user.is_empty() && !user.starts_with('#') && !user.contains([':', '\n', '\r']) && user.trim() == user
}

/// The users of a file.
#[derive(Debug)]
pub(super) struct Htpasswd {
    users: Followed<Users>,
    /// Passwords that were found right, with the hash by which they were: a new hash counts at once.
    right: Remembered,
    /// Half the cores: a flood of wrong passwords leaves the others to those who are known.
    slots: Arc<Semaphore>,
    /// Those of passwords that are verified or wait for it.
    places: Semaphore,
}

impl Htpasswd {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read. Lines that cannot be used are left out with a warning.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let users = Followed::open(path, Users::read);
        let users = users.map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let slots = available_parallelism().map_or(1, |cores| cores.get().div_ceil(2));
        Ok(Self {
            users,
            right: Remembered::yes(LIFETIME).map_err(|_| Error::Random)?,
            slots: Arc::new(Semaphore::new(slots)),
            places: Semaphore::new(slots * MOST_PER_SLOT),
        })
    }

    /// Whether `password` is that of `user`. For an unknown user it takes as long to say no.
    ///
    /// # Errors
    /// [`Overloaded`], but never for a password that was found right in the last minutes.
    pub(super) async fn verify(&self, user: &str, password: &str) -> Result<bool, Overloaded> {
        let users = self.users.current();
        let Some(hash) = users.hashes.get(user) else {
            self.run_bcrypt(password, &users.no_hash()).await?;
            return Ok(false);
        };
        self.right.get(&[user, password, hash], self.run_bcrypt(password, hash)).await
    }

    async fn run_bcrypt(&self, password: &str, hash: &str) -> Result<bool, Overloaded> {
        let (password, hash) = (password.to_owned(), hash.to_owned());
        let _place = self.places.try_acquire().map_err(|_| Overloaded)?;
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Overloaded)?;
        // The slot moves along: the work goes on when the request has gone.
        let work = tokio::task::spawn_blocking(move || {
            let is_right = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(slot);
            is_right
        });
        Ok(work.await.unwrap_or(false))
    }
}

#[derive(Debug)]
struct Users {
    hashes: HashMap<String, String>,
    /// The highest cost among the hashes.
    cost: u32,
}

impl Users {
    fn read(path: &Path) -> io::Result<Self> {
        let (users, rejects) = Self::parse(&fs::read_to_string(path)?);
        for (line, reason) in rejects {
            tracing::warn!(path = %path.display(), line, reason, "a line of the password file is not used");
        }
        if users.hashes.is_empty() {
            tracing::warn!(path = %path.display(), "the password file has no user: nobody can log in");
        }
        Ok(users)
    }

    /// The users of a file's text, and the lines that are none, each with its number and the reason. Of a user with
    /// several lines the last counts, as in CNCF distribution.
    fn parse(text: &str) -> (Self, Vec<(usize, &'static str)>) {
        let mut users = Self { hashes: HashMap::new(), cost: 0 };
        let mut rejects = Vec::new();
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Ok((user, hash, cost)) => {
                    users.cost = users.cost.max(cost);
                    users.hashes.insert(user.to_owned(), hash.to_owned());
                }
                Err(reason) => rejects.push((number, reason)),
            }
        }
        (users, rejects)
    }

    /// A hash that no password has and that takes as long to compare as that of a user.
    fn no_hash(&self) -> String {
        let cost = if self.cost == 0 { DEFAULT_COST } else { self.cost };
        format!("$2b${cost:02}${NO_PASSWORD}")
    }
}

fn parse_line(line: &str) -> Result<(&str, &str, u32), &'static str> {
    let (user, hash) = line.split_once(':').ok_or("it has no colon")?;
    if user.is_empty() {
        return Err("it has no user");
    }
    if !["$2a$", "$2b$", "$2y$"].iter().any(|kind| hash.starts_with(kind)) {
        return Err("its hash is not bcrypt, make it with `htpasswd -B`");
    }
    let parts: HashParts = hash.parse().map_err(|_| "its bcrypt hash is damaged")?;
    Ok((user, hash, parts.get_cost()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(user: &str, password: &str) -> String {
        format!("{user}:{}\n", bcrypt::hash(password, 4).unwrap())
    }

    /// Users of a file that is looked at each time.
    fn open(path: &Path) -> Htpasswd {
        let htpasswd = Htpasswd::open(path).unwrap();
        Htpasswd { users: htpasswd.users.without_interval(), ..htpasswd }
    }

    #[test]
    fn lines_are_read_as_distribution_does_and_others_are_left_out() {
        let hash = "$2y$05$abcdefghijklmnopqrstuuKkzxJp7IWbeZbkUYQzoWYnPgVLcEy0m";
        let text = format!(
            "# comment\n\n  ann:{hash}  \nno colon\n:{hash}\nbob:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n\
             cat:$apr1$x$y\ndan:$2y$05$short\neve:$2x$05${NO_PASSWORD}\nfox:plain\ngnu:{}\nann:{}\n",
            hash.replace("$2y$", "$2a$"),
            hash.replace("$05$", "$11$"),
        );

        let (users, rejects) = Users::parse(&text);

        let mut names: Vec<_> = users.hashes.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["ann", "gnu"]);
        assert!(users.hashes["ann"].starts_with("$2y$11$"), "the last line counts");
        assert_eq!(users.cost, 11);
        let lines: Vec<_> = rejects.iter().map(|(number, _)| *number).collect();
        assert_eq!(lines, [4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn the_work_for_an_unknown_user_is_that_for_a_known_one() {
        let (users, _) = Users::parse(&line("ann", "secret"));
        let rows = [(users, 4), (Users::parse("").0, DEFAULT_COST)];
        for (users, cost) in rows {
            assert_eq!(users.no_hash().parse::<HashParts>().unwrap().get_cost(), cost);
        }
    }

    #[tokio::test]
    async fn all_versions_of_bcrypt_are_verified() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        let parts = bcrypt::hash_with_result("secret", 4).unwrap();
        let versions =
            [("a", bcrypt::Version::TwoA), ("b", bcrypt::Version::TwoB), ("y", bcrypt::Version::TwoY)];
        let lines = versions.map(|(user, version)| format!("{user}:{}\n", parts.format_for_version(version)));
        fs::write(&path, lines.concat()).unwrap();
        let htpasswd = open(&path);
        for user in ["a", "b", "y"] {
            assert!(htpasswd.verify(user, "secret").await.unwrap());
            assert!(!htpasswd.verify(user, "Secret").await.unwrap());
        }
        assert!(!htpasswd.verify("z", "secret").await.unwrap());
    }

    #[tokio::test]
    async fn changes_of_the_file_count_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        fs::write(&path, line("ann", "old")).unwrap();
        let htpasswd = open(&path);
        assert!(htpasswd.verify("ann", "old").await.unwrap());

        fs::write(&path, line("ann", "new") + &line("bob", "secret")).unwrap();
        assert!(!htpasswd.verify("ann", "old").await.unwrap(), "the old password was found right before");
        assert!(htpasswd.verify("ann", "new").await.unwrap());
        assert!(htpasswd.verify("bob", "secret").await.unwrap());

        let next = directory.path().join("next");
        fs::write(&next, line("bob", "secret")).unwrap();
        fs::rename(&next, &path).unwrap();
        assert!(!htpasswd.verify("ann", "new").await.unwrap(), "the user is gone");
        assert!(htpasswd.verify("bob", "secret").await.unwrap());
    }

    #[tokio::test]
    async fn an_unreadable_file_leaves_the_users_as_they_were() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("htpasswd");
        fs::write(&path, line("ann", "secret")).unwrap();
        let htpasswd = open(&path);

        fs::remove_file(&path).unwrap();
        assert!(htpasswd.verify("ann", "secret").await.unwrap());
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(htpasswd.verify("ann", "secret").await.unwrap());

        fs::write(&path, line("ann", "mended")).unwrap();
        assert!(htpasswd.verify("ann", "mended").await.unwrap());
    }

    #[tokio::test]
    async fn other_requests_go_on_while_bcrypt_runs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let htpasswd = open(file.path());
        // The only thread of this test: bcrypt on it would hold up the timer.
        tokio::select! {
            _ = htpasswd.verify("ann", "secret") => panic!("an unknown user was refused in no time"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {}
        }
    }

    #[tokio::test]
    async fn one_password_too_many_is_refused_at_once_and_a_known_one_is_not() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(line("ann", "secret").as_bytes()).unwrap();
        let htpasswd = Htpasswd::open(file.path()).unwrap();
        assert_eq!(htpasswd.verify("ann", "secret").await, Ok(true));
        let taken =
            htpasswd.places.try_acquire_many(u32::try_from(htpasswd.places.available_permits()).unwrap());
        for (user, password, expected) in [
            ("ann", "wrong", Err(Overloaded)),
            ("bob", "secret", Err(Overloaded)),
            ("ann", "secret", Ok(true)),
        ] {
            assert_eq!(htpasswd.verify(user, password).await, expected, "{user} {password}");
        }
        drop(taken);
        assert_eq!(htpasswd.verify("ann", "wrong").await, Ok(false));
    }

    #[test]
    fn names_that_would_break_the_file_are_known() {
        let rows = [
            ("ann", true),
            ("ann b", true),
            ("", false),
            ("a:b", false),
            ("a\nb", false),
            ("#a", false),
            (" a", false),
        ];
        for (user, usable) in rows {
            assert_eq!(is_valid_user(user), usable, "{user:?}");
        }
    }
}
