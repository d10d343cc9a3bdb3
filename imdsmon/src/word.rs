//! A value as one word, that of its JSON form: `v1`, `no-answer`, `user-data`. So it is called in
//! every format and in the store.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The word of a value; empty for a value whose JSON is no text.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// The value of a word; `None` if there is none.
pub fn value<T: DeserializeOwned>(word: String) -> Option<T> {
    serde_json::from_value(Value::String(word)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Answer;

    #[test]
    fn a_word_is_that_of_the_json_form() {
        assert_eq!(word(&Answer::NotImds), "not-imds");
        assert_eq!(value::<Answer>("not-imds".into()), Some(Answer::NotImds));
        assert_eq!(value::<Answer>("NotImds".into()), None);
        assert_eq!(word(&7), "");
    }
}
