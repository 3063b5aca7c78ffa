//! The recipes of docs/services.md, as a reader of that page would follow them: the tests run what
//! stands there, so that page and tests cannot differ.

use std::path::PathBuf;

use crate::programs::workspace;

/// What one heading of the page says.
#[derive(Debug, Clone)]
pub struct Recipe {
    title: String,
    blocks: Vec<Block>,
}

/// A fenced block: the words behind its fence, and its text.
#[derive(Debug, Clone)]
struct Block {
    words: String,
    text: String,
}

impl Recipe {
    /// The part of the page below this heading.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn of(title: &str) -> Recipe {
        let page = std::fs::read_to_string(workspace().join("docs/services.md")).unwrap();
        let mut recipe = Recipe {
            title: title.to_owned(),
            blocks: Vec::new(),
        };
        let mut lines = page
            .lines()
            .skip_while(|line| *line != format!("## {title}"));
        assert!(lines.next().is_some(), "docs/services.md has no {title:?}");
        while let Some(line) = lines.next() {
            if line.starts_with("## ") {
                break;
            }
            if let Some(words) = line.strip_prefix("```") {
                let text = lines.by_ref().take_while(|line| *line != "```");
                let block = Block {
                    words: words.to_owned(),
                    text: text.map(|line| format!("{line}\n")).collect(),
                };
                recipe.blocks.push(block);
            }
        }
        recipe
    }

    /// The headings of the page that have a recipe below them.
    pub fn titles() -> Vec<String> {
        let page = std::fs::read_to_string(workspace().join("docs/services.md")).unwrap();
        let titles = page.lines().filter_map(|line| line.strip_prefix("## "));
        titles.map(str::to_owned).collect()
    }

    /// The commands of the block that has this word behind its fence: `sh rotate`.
    ///
    /// # Panics
    /// There is none.
    #[track_caller]
    pub fn commands(&self, word: &str) -> String {
        let fence = format!("sh {word}");
        let block = self.blocks.iter().find(|block| block.words == fence);
        let missing = || panic!("{}: no block {fence:?} in docs/services.md", self.title);
        block.unwrap_or_else(missing).text.clone()
    }

    /// The files that the page shows whole: a block whose first comment is an absolute path.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let path = |text: &str| {
            let mut lines = text.lines().skip_while(|line| line.starts_with("#!"));
            let (comment, path) = lines.next()?.split_once(' ')?;
            let is_one = ["#", "//"].contains(&comment) && path.starts_with('/');
            is_one.then(|| PathBuf::from(path))
        };
        let file = |block: &Block| Some((path(&block.text)?, block.text.clone()));
        self.blocks.iter().filter_map(file).collect()
    }
}
