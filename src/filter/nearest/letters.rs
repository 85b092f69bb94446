//! How far apart two words are, letter by letter.

/// A word that others are compared with.
///
/// One step for each letter of the other word (Hyyrö, "A bit-vector algorithm for computing
/// Levenshtein and Damerau edit distances", 2003), so that comparing with all known names
/// is cheap.
pub(super) struct Letters {
    length: usize,
    /// For each byte, the places in the word at which it stands.
    places: [u64; 256],
}

/// The longest word that can be compared, in bytes.
pub(super) const BYTES_MAX: usize = 64;

impl Letters {
    /// None where the word is empty or too long.
    pub(super) fn of(word: &str) -> Option<Self> {
        if word.is_empty() || word.len() > BYTES_MAX {
            return None;
        }
        let mut places = [0; 256];
        for (place, byte) in word.bytes().enumerate() {
            places[usize::from(byte)] |= 1 << place;
        }
        let length = word.len();
        Some(Self { length, places })
    }

    /// How many letters have to be put in, left out, replaced, or swapped with the next.
    pub(super) fn distance(&self, other: &str) -> usize {
        let last = 1_u64 << (self.length - 1);
        let (mut more, mut less) = (u64::MAX, 0_u64);
        let (mut same, mut places_before) = (0_u64, 0_u64);
        let mut distance = self.length;
        for byte in other.bytes() {
            let places = self.places[usize::from(byte)];
            let swapped = ((!same & places) << 1) & places_before;
            same = ((places & more).wrapping_add(more) ^ more) | places | less | swapped;
            let across_more = less | !(same | more);
            let across_less = same & more;
            if across_more & last != 0 {
                distance += 1;
            }
            if across_less & last != 0 {
                distance -= 1;
            }
            let across_more = (across_more << 1) | 1;
            more = (across_less << 1) | !(same | across_more);
            less = same & across_more;
            places_before = places;
        }
        distance
    }

    /// The distance to `other`, if at most one letter in `one_of` differs.
    pub(super) fn resembles(&self, other: &str, one_of: usize) -> Option<usize> {
        let most = (self.length.max(other.len()) / one_of).max(1);
        if self.length.abs_diff(other.len()) > most {
            return None;
        }
        Some(self.distance(other)).filter(|distance| *distance <= most)
    }
}

/// The letters and digits of a name, in lower case.
pub(super) fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_distance_agrees_with_a_naive_one(one in "[a-d]{1,12}", other in "[a-d]{0,12}") {
            let letters = Letters::of(&one).expect("short");
            prop_assert_eq!(letters.distance(&other), strsim::osa_distance(&one, &other));
        }

        #[test]
        fn long_words_are_compared_too(one in "[a-c]{60,64}", other in "[a-c]{50,100}") {
            let letters = Letters::of(&one).expect("short");
            prop_assert_eq!(letters.distance(&other), strsim::osa_distance(&one, &other));
        }
    }
}
