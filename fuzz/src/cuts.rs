/// Cuts input into pieces whose sizes follow from a seed; 0 is one piece, 1 single octets.
pub(crate) fn cuts(seed: u8, mut input: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut state = u32::from(seed);
    while !input.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let size = match seed {
            0 => input.len(),
            1 => 1,
            _ => 1 + (state >> 16) as usize % (2 + usize::from(seed)),
        };
        let (piece, rest) = input.split_at(size.min(input.len()));
        pieces.push(piece);
        input = rest;
    }
    pieces
}
