//! The laws of `tests/fuzz/laws`, held to random inputs. `tests/tools/fuzz` has a fuzzer
//! look for inputs that break them.

use arbitrary::{Arbitrary as _, Unstructured};
use proptest::prelude::*;

#[path = "../fuzz/laws/mod.rs"]
mod fuzz;

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..400)
}

macro_rules! hold {
    ($($name:ident: $input:ident),* $(,)?) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
            $(#[test]
            fn $name(bytes in any_bytes()) {
                if let Ok(input) = fuzz::$input::arbitrary(&mut Unstructured::new(&bytes)) {
                    input.hold();
                }
            })*
        }
    };
}

hold! {
    accepted_means_svix_accepts: Delivery,
    any_body_becomes_an_event_that_decodes: Body,
    fidelity_free_json_is_exact_or_absent: FreeJson,
    what_a_body_suffered_is_found_or_not_and_never_made_up: Rewriting,
    a_cursor_is_read_as_it_was_written_and_nothing_else_is: CursorText,
    an_ack_id_is_read_as_it_was_written_and_nothing_else_is: AckIdText,
    any_bytes_are_the_state_of_a_subscription_or_an_error: StateBytes,
    a_filter_matches_what_it_says: Filtering,
    a_policy_leaves_of_a_filter_what_both_allow: PolicyOnFilter,
    a_configuration_file_that_is_cut_is_not_taken_for_the_whole: ConfigCut,
    a_configuration_file_is_taken_or_refused_without_its_secrets: ConfigFile,
    a_forged_segment_is_refused_or_leads_to_its_positions: ForgedSegment,
}
