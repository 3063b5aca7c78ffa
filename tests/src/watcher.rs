//! A service that watches a secret's file and its folder by inotify(7), each watch set once.

use crate::manifest::Asked;
use crate::{Pair, Service, wait};

/// The service; each line that it prints is an event.
pub struct Watcher {
    service: Service,
}

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Heard {
    /// MODIFY of the file that was watched.
    FileModified,
    /// CLOSE_WRITE of it.
    FileWritten,
    /// MODIFY of the name, by its folder.
    NameModified,
    /// CLOSE_WRITE of the name.
    NameWritten,
    /// DELETE of the name.
    NameDeleted,
}

impl Heard {
    /// What a rotation is heard as.
    pub const ROTATION: [Heard; 4] = [
        Heard::FileModified,
        Heard::FileWritten,
        Heard::NameModified,
        Heard::NameWritten,
    ];
}

impl Watcher {
    /// Watches `path`, a file of the view that `asked` is given.
    #[track_caller]
    pub fn start(pair: &Pair, asked: &Asked, path: &str) -> Watcher {
        // IN_MODIFY 2, IN_CLOSE_WRITE 8, IN_DELETE 0x200.
        let script = format!(
            "import ctypes, struct\n\
            path = b'{path}'\n\
            libc = ctypes.CDLL(None, use_errno=True)\n\
            fd = libc.inotify_init()\n\
            file = libc.inotify_add_watch(fd, path, 2 | 8)\n\
            folder = libc.inotify_add_watch(fd, os.path.dirname(path), 2 | 8 | 0x200)\n\
            print('watching', flush=True)\n\
            while True:\n    \
            data = os.read(fd, 65536)\n    \
            while data:\n        \
            wd, mask, _, n = struct.unpack('iIII', data[:16])\n        \
            name = data[16:16 + n].rstrip(b'\\0')\n        \
            data = data[16 + n:]\n        \
            if wd == folder and name != os.path.basename(path): continue\n        \
            kind = 'file' if wd == file else 'name'\n        \
            for bit, what in [(2, 'modified'), (8, 'written'), (0x200, 'deleted')]:\n            \
            if mask & bit: print(kind, what, flush=True)\n"
        );
        let mut service = pair.run(&asked.clone().python(&script));
        assert_eq!(service.line(), "watching");
        Watcher { service }
    }

    /// The next event.
    #[track_caller]
    pub fn hears(&mut self) -> Heard {
        match self.service.line().as_str() {
            "file modified" => Heard::FileModified,
            "file written" => Heard::FileWritten,
            "name modified" => Heard::NameModified,
            "name written" => Heard::NameWritten,
            "name deleted" => Heard::NameDeleted,
            other => panic!("{other}"),
        }
    }

    /// Passes over what it has told so far.
    pub fn forgets(&mut self) {
        self.service.skip_lines();
    }

    /// Waits until each of these was heard, whatever else is.
    ///
    /// # Panics
    /// One was not within [`wait::LONG`].
    #[track_caller]
    pub fn hears_all(&mut self, all: &[Heard]) {
        let mut left = all.to_vec();
        let end = std::time::Instant::now() + wait::LONG;
        while !left.is_empty() {
            assert!(std::time::Instant::now() < end, "not heard: {left:?}");
            let heard = self.hears();
            left.retain(|other| *other != heard);
        }
    }
}
