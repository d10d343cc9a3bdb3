//! The one definition of an enum whose values have words.

/// Defines an enum whose values are single words in JSON, in the store, in labels and in output.
///
/// The word is the variant's name in kebab-case. An exception names its word twice, for serde and
/// for strum; the test of this module compares the two.
macro_rules! with_words {
    ($(#[$attribute:meta])* $visibility:vis enum $name:ident { $($variants:tt)* }) => {
        $(#[$attribute])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
            strum::IntoStaticStr, strum::EnumString, strum::VariantArray,
        )]
        #[serde(rename_all = "kebab-case")]
        #[strum(serialize_all = "kebab-case")]
        $visibility enum $name { $($variants)* }
    };
}
pub(crate) use with_words;

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::{Serialize, de::DeserializeOwned};
    use serde_json::Value;
    use strum::VariantArray;

    use crate::{
        http::call::{ImdsVersion, TokenValue},
        identity::workload::WorkloadKind,
        knowledge::PathClass,
        ledger::{Cause, ResponseClass},
        verdict::{Confidence, HostVerdict, Rule, Verdict},
    };

    fn assert_one_word<T: VariantArray + Copy + Debug + Serialize + Into<&'static str>>() {
        for &value in T::VARIANTS {
            let word: &str = value.into();
            let json = serde_json::to_value(value).unwrap();
            assert_eq!(json, Value::from(word), "{value:?}");
        }
    }

    fn assert_read_back<T>()
    where
        T: VariantArray + Copy + Debug + PartialEq + Serialize + DeserializeOwned,
        T: Into<&'static str> + std::str::FromStr,
    {
        assert_one_word::<T>();
        for &value in T::VARIANTS {
            let word: &str = value.into();
            assert_eq!(word.parse::<T>().ok(), Some(value));
            assert_eq!(serde_json::from_value(word.into()).ok(), Some(value));
        }
        assert!("".parse::<T>().is_err());
    }

    #[test]
    fn json_and_text_use_the_same_words() {
        assert_read_back::<ImdsVersion>();
        assert_read_back::<TokenValue>();
        assert_read_back::<ResponseClass>();
        assert_read_back::<PathClass>();
        assert_read_back::<Cause>();
        assert_one_word::<WorkloadKind>();
        assert_one_word::<Verdict>();
        assert_one_word::<HostVerdict>();
        assert_one_word::<Confidence>();
        assert_one_word::<Rule>();
    }
}
