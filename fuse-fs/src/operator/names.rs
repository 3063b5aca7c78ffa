//! Inode numbers of the operators' tree.

use std::collections::HashMap;

/// Inode numbers of what is below `store` and `grants`. They begin where no earlier secretsd's did,
/// so that one of those is not taken for another.
pub(super) struct Names {
    next: u64,
    by_name: HashMap<(u64, String), u64>,
    by_number: HashMap<u64, (u64, String)>,
}

impl Names {
    pub fn new() -> Names {
        Names {
            next: crate::tree::now().0 << 24,
            by_name: HashMap::new(),
            by_number: HashMap::new(),
        }
    }

    /// The number of a name in one of the folders, always the same one.
    pub fn number(&mut self, folder: u64, name: &str) -> u64 {
        let key = (folder, name.to_owned());
        if let Some(number) = self.by_name.get(&key) {
            return *number;
        }
        self.next += 1;
        self.by_number.insert(self.next, key.clone());
        self.by_name.insert(key, self.next);
        self.next
    }

    /// The folder and name of a number.
    pub fn name(&self, number: u64) -> Option<(u64, String)> {
        self.by_number.get(&number).cloned()
    }
}
