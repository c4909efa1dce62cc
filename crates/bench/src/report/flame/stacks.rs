use std::collections::BTreeMap;

/// Frames that say nothing about what is done: the runtime's and the standard library's plumbing.
/// A row of them is drawn as one.
const PLUMBING: [&str; 11] = [
    "__clone",
    "__libc_start",
    "_start",
    "clone3",
    "core::",
    "futures_util::",
    "main",
    "start_thread",
    "std::",
    "tokio::",
    "tracing::instrument",
];

/// Kernel entry, which every system call has.
const ENTRY: [&str; 6] = [
    "entry_SYSCALL_64_after_hwframe",
    "do_syscall_64",
    "x64_sys_call",
    "el0_svc",
    "el0t_64_sync",
    "invoke_syscall",
];

/// Kernel functions that are kept of a stack: what they do below is not ours to change, and the
/// network's are twenty deep.
const KERNEL_DEPTH: usize = 7;

/// Functions of libc's allocator, as perf names them.
const ALLOCATOR: [&str; 10] = [
    "_int_free",
    "_int_malloc",
    "_int_realloc",
    "cfree",
    "malloc",
    "calloc",
    "realloc",
    "free",
    "unlink_chunk",
    "tcache",
];

/// Samples by their stacks: the process first, the function that ran last.
#[derive(Debug, Default)]
pub(crate) struct Stacks {
    counts: BTreeMap<Vec<String>, u64>,
    shares: BTreeMap<(String, String), u64>,
    total: u64,
}

impl Stacks {
    /// Reads what `perf script -F pid,ip,sym,dso` prints.
    pub(crate) fn parse(script: &str, names: &BTreeMap<u32, String>) -> Self {
        let mut stacks = Self::default();
        let mut process: Option<String> = None;
        let mut frames: Vec<Frame> = Vec::new();
        for line in script.lines() {
            if line.trim().is_empty() {
                if let Some(name) = process.take() {
                    stacks.add(name, std::mem::take(&mut frames));
                }
            } else if line.starts_with('\t') {
                frames.extend(Frame::parse(line));
            } else if let Some(Ok(pid)) = line.split_whitespace().next().map(str::parse::<u32>) {
                let name = names.get(&pid).cloned();
                process = Some(name.unwrap_or_else(|| pid.to_string()));
            }
        }
        if let Some(name) = process {
            stacks.add(name, frames);
        }
        stacks
    }

    /// All samples.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Samples by stack.
    pub(crate) fn counts(&self) -> &BTreeMap<Vec<String>, u64> {
        &self.counts
    }

    /// Samples by process and by what it was in: a system call, or the crate of the innermost
    /// function.
    pub(crate) fn shares(&self) -> &BTreeMap<(String, String), u64> {
        &self.shares
    }

    fn add(&mut self, process: String, frames: Vec<Frame>) {
        self.total += 1;
        let key = (process.clone(), place(&frames));
        *self.shares.entry(key).or_default() += 1;
        let mut stack = vec![process];
        let mut kernel = 0;
        for frame in frames.into_iter().rev() {
            kernel += usize::from(frame.kernel);
            if kernel > KERNEL_DEPTH {
                break;
            }
            let Some(label) = frame.label() else { continue };
            if stack.last() != Some(&label) {
                stack.push(label);
            }
        }
        *self.counts.entry(stack).or_default() += 1;
    }
}

/// One function of a stack.
#[derive(Debug)]
struct Frame {
    symbol: String,
    kernel: bool,
}

impl Frame {
    fn parse(line: &str) -> Option<Self> {
        let (_, rest) = line.trim().split_once(' ')?;
        let (symbol, object) = rest.rsplit_once(" (")?;
        let object = object.trim_end_matches(')');
        let symbol = match symbol {
            // Where unwinding lost its way.
            "[unknown]" if object == "[unknown]" => return None,
            // Only libraries without symbols have these.
            "[unknown]" => object.rsplit('/').next().unwrap_or(object).to_owned(),
            _ => shorten(symbol),
        };
        Some(Self {
            symbol,
            kernel: object.starts_with("[kernel") || object.starts_with("[guest"),
        })
    }

    fn is_entry(&self) -> bool {
        ENTRY.contains(&self.symbol.as_str())
    }

    /// How it is drawn; nothing if it is not worth a frame.
    fn label(self) -> Option<String> {
        if self.kernel {
            return (!self.is_entry()).then(|| format!("{} [k]", self.symbol));
        }
        let plumbing = PLUMBING.iter().any(|start| self.symbol.starts_with(start));
        Some(if plumbing {
            "runtime".to_owned()
        } else {
            self.symbol
        })
    }
}

/// What a sample counts for: the system call, else the crate of the innermost function.
fn place(frames: &[Frame]) -> String {
    // Stacks come innermost first, so what called is behind.
    let entry = frames.iter().position(|f| f.kernel && f.is_entry());
    let call = entry.and_then(|at| frames.get(at.checked_sub(1)?));
    match (call, frames.first()) {
        (Some(call), _) => format!("kernel: {}", system_call(&call.symbol)),
        (None, None) => "unknown".to_owned(),
        (None, Some(frame)) if frame.kernel => "kernel: interrupts and page faults".to_owned(),
        (None, Some(frame)) => module(&frame.symbol),
    }
}

/// The name that a manual has, of a kernel function that does a system call.
fn system_call(symbol: &str) -> &str {
    const PREFIXES: [&str; 6] = [
        "__x64_sys_",
        "__arm64_sys_",
        "__se_sys_",
        "__do_sys_",
        "__sys_",
        "ksys_",
    ];
    let bare = PREFIXES
        .iter()
        .find_map(|prefix| symbol.strip_prefix(prefix));
    match bare.unwrap_or(symbol) {
        "do_fsync" | "fsync" | "fdatasync" => "fsync, fdatasync",
        "do_writev" => "writev",
        "do_epoll_wait" => "epoll_wait",
        "syscall_exit_to_user_mode" | "syscall_exit_work" => "scheduling",
        name => name,
    }
}

fn module(symbol: &str) -> String {
    let bare = symbol.trim_start_matches(['<', '&', '_']);
    let allocator = |name: &&str| bare.starts_with(name.trim_start_matches('_'));
    if !bare.contains("::") && ALLOCATOR.iter().any(allocator) {
        return "allocator".to_owned();
    }
    if bare.starts_with("mem") && !bare.contains("::") {
        return "copying memory".to_owned();
    }
    match bare.split_once("::") {
        Some((name, _)) if name.chars().all(|c| c.is_alphanumeric() || c == '_') => name.to_owned(),
        _ if bare.ends_with(".so.6") || !bare.contains("::") => "libc".to_owned(),
        _ => "generic code".to_owned(),
    }
}

/// A name without its hash, its arguments in angle brackets and its closures.
fn shorten(symbol: &str) -> String {
    let symbol = match symbol.rsplit_once("::h") {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name
        }
        _ => symbol,
    };
    // `<a::B as c::D>::e` is kept as `a::B::e`.
    let symbol = match symbol.strip_prefix('<').and_then(split_receiver) {
        Some((receiver, method)) => format!("{receiver}{method}"),
        None => symbol.to_owned(),
    };
    let mut short = String::with_capacity(symbol.len());
    let mut depth = 0_u32;
    for c in symbol.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => short.push(c),
            _ => {}
        }
    }
    short = short
        .replace("::{{closure}}", "")
        .replace("::{closure#0}", "");
    while short.contains("::::") {
        short = short.replace("::::", "::");
    }
    short.trim_end_matches("::").to_owned()
}

/// The receiver and what is behind the closing bracket, of a name after its first bracket.
fn split_receiver(rest: &str) -> Option<(&str, &str)> {
    let mut depth = 1_u32;
    let end = rest.char_indices().find_map(|(at, c)| {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        (depth == 0).then_some(at)
    })?;
    let (inside, behind) = (rest.get(..end)?, rest.get(end + 1..)?);
    let receiver = inside.split(" as ").next()?.trim_start_matches(['&', '(']);
    Some((receiver.trim_start_matches("mut "), behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
 12 \n\tffffffff81ac51ca vfs_write ([kernel.kallsyms])
\tffffffff81ac51cb __x64_sys_write ([kernel.kallsyms])
\tffffffff8225a6c1 do_syscall_64 ([kernel.kallsyms])
\t           f8350 __GI___libc_write (/usr/lib/libc.so.6)
\t           12345 <queued::log::Log as core::fmt::Write>::write::h0123456789abcdef (/b/queued)
\t           12346 tokio::runtime::task::poll::h0123456789abcdef (/b/queued)
\t           12347 std::thread::run::h0123456789abcdef (/b/queued)

 12 \n\t           12348 h2::codec::Decoder<T, U>::decode::{{closure}}::h0123456789abcdef (/b/queued)
\t           12347 std::thread::run::h0123456789abcdef (/b/queued)

";

    #[test]
    fn stacks_begin_with_the_process_and_leave_out_the_plumbing() {
        let names = BTreeMap::from([(12, "queued".to_owned())]);
        let stacks = Stacks::parse(SCRIPT, &names);
        assert_eq!(stacks.total(), 2);
        let all: Vec<String> = stacks
            .counts()
            .keys()
            .map(|stack| stack.join(";"))
            .collect();
        assert_eq!(
            all,
            [
                "queued;runtime;h2::codec::Decoder::decode",
                "queued;runtime;queued::log::Log::write;__GI___libc_write;__x64_sys_write \
                 [k];vfs_write [k]",
            ]
        );
        let places: Vec<&str> = stacks
            .shares()
            .keys()
            .map(|(_, place)| place.as_str())
            .collect();
        assert_eq!(places, ["h2", "kernel: write"]);
    }

    #[test]
    fn modules_are_crates_or_kinds_of_work() {
        for (symbol, expected) in [
            ("tonic::codec::decode", "tonic"),
            ("_int_malloc", "allocator"),
            ("__libc_write", "libc"),
            ("malloc", "allocator"),
            ("memchr::arch::find", "memchr"),
            ("__memmove_avx_unaligned_erms", "copying memory"),
        ] {
            assert_eq!(module(symbol), expected, "{symbol}");
        }
    }
}
