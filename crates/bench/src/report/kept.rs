//! A page that is written anew, but for a part of it that people write.

/// Begins the part that is kept.
pub(crate) const BEGIN: &str = "<!-- kept: written by hand, the rest by `cargo xtask bench` -->";

/// Ends it.
pub(crate) const END: &str = "<!-- kept: end -->";

/// The new page: the generated text before and behind, and between them what the old page has
/// between the marks, or `first` if it has none.
pub(crate) fn page(old: Option<&str>, before: &str, first: &str, behind: &str) -> String {
    let kept = old.and_then(between).unwrap_or(first).trim();
    format!("{before}\n{BEGIN}\n{kept}\n{END}\n\n{behind}")
}

fn between(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(BEGIN)?;
    Some(rest.split_once(END)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_wrote_stays() {
        let new = page(None, "# A\n", "nothing yet", "## Method\n");
        assert!(new.contains("nothing yet"));
        let edited = new.replace("nothing yet", "The disk is the limit.");
        let again = page(Some(&edited), "# B\n", "nothing yet", "## Method 2\n");
        assert!(again.starts_with("# B\n"));
        assert!(again.contains("The disk is the limit.") && !again.contains("nothing yet"));
        assert_eq!(again.matches(BEGIN).count(), 1);
        assert!(again.ends_with("## Method 2\n"));
    }
}
