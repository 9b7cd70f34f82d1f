// SPDX-License-Identifier: GPL-2.0

//! System calls: arguments are parsed here, once, into a [`Request`] that cannot be wrong.
//!
//! Built in, since most of what is asked for needs no module.

use core::mem::transmute;
use kernel::{
    bindings,
    error::{
        from_result,
        to_result, //
    },
    fs::File,
    page::PAGE_SIZE,
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// As user space sees it.
type Argument = bindings::layout_lease;

const F_RDLCK: u16 = bindings::F_RDLCK as u16;
const F_WRLCK: u16 = bindings::F_WRLCK as u16;
const F_UNLCK: u16 = bindings::F_UNLCK as u16;

/// The last byte that a file can have.
const MAX: u64 = i64::MAX as u64;

/// The closed range `[start, last]` of bytes of a regular file.
///
/// A length of 0 reaches to infinity, which is [`u64::MAX`] here, and so does what ends with the
/// last byte that a file can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    last: u64,
}

impl Range {
    fn parse(arg: &Argument, is_regular: bool) -> Result<Self> {
        let end = arg.start.checked_add(arg.len).ok_or(EINVAL)?;
        if !is_regular || arg.start > MAX || end > MAX + 1 {
            return Err(EINVAL);
        }
        Ok(Self {
            start: arg.start,
            last: match arg.len {
                0 => u64::MAX,
                _ if end > MAX => u64::MAX,
                _ => end - 1,
            },
        })
    }

    /// All that lies behind it, if anything does.
    fn behind(self) -> Option<Self> {
        let start = self.last.checked_add(1)?;
        Some(Self {
            start,
            last: u64::MAX,
        })
    }

    /// As a pair of `loff_t`.
    fn offsets(self) -> (i64, i64) {
        (self.start as i64, self.last.min(MAX) as i64)
    }
}

/// What `F_SETLAYOUT` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// A lease.
    Set {
        /// `F_RDLCK` or `F_WRLCK`.
        kind: u16,
        range: Range,
        /// An eventfd for the open file, see `layout_holder_alloc()`.
        event: c_int,
        /// Sleep as long as something is in the way.
        wait: bool,
    },
    /// No lease; and revoke what is attached, or fail if something is.
    Unset(Range, bool),
    /// Nobody's lease, now.
    Seize(Range),
    /// The same for all files of the filesystem.
    SeizeFilesystem,
    /// That everybody lets go.
    Break(Range),
}

impl Request {
    /// Flags that go with a lease.
    const SET_FLAGS: u32 = bindings::LAYOUT_LEASE_EVENTFD | bindings::LAYOUT_LEASE_WAIT;

    fn parse_event(arg: &Argument) -> Result<c_int> {
        match arg.flags & bindings::LAYOUT_LEASE_EVENTFD {
            _ if arg.__pad != 0 => Err(EINVAL),
            0 if arg.event_fd == 0 => Ok(bindings::LAYOUT_EVENT_KEEP),
            0 => Err(EINVAL),
            // Who does not know the field does not mean descriptor 0.
            _ if arg.size < bindings::LAYOUT_LEASE_SIZE_VER1 => Err(EINVAL),
            _ if arg.event_fd < bindings::LAYOUT_EVENT_NONE => Err(EBADF),
            _ => Ok(arg.event_fd),
        }
    }

    fn parse(arg: &Argument, is_regular: bool) -> Result<Self> {
        let event = Self::parse_event(arg)?;
        // Any file of the filesystem will do, a directory too.
        if arg.type_ == F_UNLCK && arg.flags == bindings::LAYOUT_LEASE_SEIZE_FS {
            return match (arg.start, arg.len) {
                (0, 0) => Ok(Self::SeizeFilesystem),
                _ => Err(EINVAL),
            };
        }
        let range = Range::parse(arg, is_regular)?;
        match (arg.type_, arg.flags) {
            (kind @ (F_RDLCK | F_WRLCK), flags) if flags & !Self::SET_FLAGS == 0 => Ok(Self::Set {
                kind,
                range,
                event,
                wait: flags & bindings::LAYOUT_LEASE_WAIT != 0,
            }),
            (F_UNLCK, 0) => Ok(Self::Unset(range, false)),
            (F_UNLCK, bindings::LAYOUT_LEASE_REVOKE) => Ok(Self::Unset(range, true)),
            (F_UNLCK, bindings::LAYOUT_LEASE_SEIZE) => Ok(Self::Seize(range)),
            (F_UNLCK, bindings::LAYOUT_LEASE_BREAK) => Ok(Self::Break(range)),
            _ => Err(EINVAL),
        }
    }

    /// Does what is asked for. `fd` is what the caller calls the file.
    fn execute(self, fd: c_uint, file: &File) -> Result {
        // SAFETY: It looks at the current task.
        let is_admin = || unsafe { bindings::capable(bindings::CAP_SYS_ADMIN as c_int) };
        if matches!(self, Self::Seize(_) | Self::SeizeFilesystem) && !is_admin() {
            return Err(EPERM);
        }
        let (fd, file) = (fd as c_int, file.as_ptr());
        // SAFETY: The file is valid, and ranges are only made of regular ones.
        to_result(unsafe {
            match self {
                Self::Set {
                    kind,
                    range: Range { start, last },
                    event,
                    wait,
                } => bindings::layout_set_lease(file, fd, start, last, kind.into(), event, wait),
                Self::Unset(Range { start, last }, revoke) => {
                    bindings::layout_unset_lease(file, start, last, revoke)
                }
                Self::Seize(range) => {
                    let (start, last) = range.offsets();
                    bindings::layout_seize(file, start, last)
                }
                Self::SeizeFilesystem => bindings::layout_seize_filesystem(file),
                Self::Break(range) => {
                    let (start, last) = range.offsets();
                    bindings::layout_start_break(file, start, last)
                }
            }
        })
    }
}

/// What `F_GETLAYOUT` asks for: the first lease of an open file in a range, of those that are
/// broken or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Query {
    /// [`None`]: behind infinity, where there is none.
    range: Option<Range>,
    broken: bool,
}

impl Query {
    fn parse(arg: &Argument, is_regular: bool) -> Result<Self> {
        use bindings::{
            LAYOUT_LEASE_BROKEN as BROKEN,
            LAYOUT_LEASE_NEXT as NEXT, //
        };
        if arg.flags & !(BROKEN | NEXT) != 0 || arg.event_fd != 0 || arg.__pad != 0 {
            return Err(EINVAL);
        }
        let range = Range::parse(arg, is_regular)?;
        Ok(Self {
            range: match arg.flags & NEXT {
                0 => Some(range),
                _ => range.behind(),
            },
            broken: arg.flags & BROKEN != 0,
        })
    }
}

fn is_regular(file: &File) -> bool {
    // SAFETY: The file is valid, and keeps its inode so.
    let mode = unsafe { (*(*file.as_ptr()).f_inode).i_mode };
    u32::from(mode) & bindings::S_IFMT == bindings::S_IFREG
}

/// A structure that may have grown: what it does not have is 0 here, what we do not know must be 0
/// ([`E2BIG`]).
fn copy_from_user(ptr: UserPtr) -> Result<Argument> {
    let size: u32 = UserSlice::new(ptr, size_of::<u32>()).reader().read()?;
    if size < bindings::LAYOUT_LEASE_SIZE_VER0 {
        return Err(EINVAL);
    }
    if size as usize > PAGE_SIZE {
        return Err(E2BIG);
    }
    let mut reader = UserSlice::new(ptr, size as usize).reader();
    let mut bytes = [0u8; size_of::<Argument>()];
    let known = bytes.len().min(reader.len());
    reader.read_slice(&mut bytes[..known])?;
    let mut rest = [0u8; 64];
    while !reader.is_empty() {
        let part = rest.len().min(reader.len());
        reader.read_slice(&mut rest[..part])?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(E2BIG);
        }
    }
    // SAFETY: It consists of integers, for which all bytes will do.
    let arg: Argument = unsafe { transmute(bytes) };
    // Another thread may have changed it since it was read first.
    Ok(Argument { size, ..arg })
}

fn copy_to_user(ptr: UserPtr, arg: &Argument) -> Result {
    // SAFETY: It consists of integers, without padding.
    let bytes: [u8; size_of::<Argument>()] = unsafe { transmute(*arg) };
    let mut writer = UserSlice::new(ptr, arg.size as usize).writer();
    let known = bytes.len().min(writer.len());
    writer.write_slice(&bytes[..known])?;
    let rest = [0u8; 64];
    while !writer.is_empty() {
        let part = rest.len().min(writer.len());
        writer.write_slice(&rest[..part])?;
    }
    Ok(())
}

/// `F_SETLAYOUT`
///
/// # Safety
///
/// `file` is valid.
#[export]
pub unsafe extern "C" fn fcntl_setlayout(
    fd: c_uint,
    file: *mut bindings::file,
    uarg: *mut Argument,
) -> c_int {
    from_result(|| {
        // SAFETY: The file is valid during the call, and its position is not used.
        let file = unsafe { File::from_raw_file(file) };
        let arg = copy_from_user(UserPtr::from_ptr(uarg.cast()))?;
        Request::parse(&arg, is_regular(file))?.execute(fd, file)?;
        Ok(0)
    })
}

/// `F_SETLEASE` with `F_LAYOUT | type`: the whole file.
///
/// # Safety
///
/// `file` is valid.
#[export]
pub unsafe extern "C" fn fcntl_setlease_layout(
    fd: c_uint,
    file: *mut bindings::file,
    type_: c_int,
) -> c_int {
    from_result(|| {
        // SAFETY: The file is valid during the call, and its position is not used.
        let file = unsafe { File::from_raw_file(file) };
        let arg = Argument {
            type_: type_.try_into()?,
            ..Default::default()
        };
        Request::parse(&arg, is_regular(file))?.execute(fd, file)?;
        Ok(0)
    })
}

/// `F_GETLAYOUT`
///
/// # Safety
///
/// `file` is valid.
#[export]
pub unsafe extern "C" fn fcntl_getlayout(file: *mut bindings::file, uarg: *mut Argument) -> c_int {
    from_result(|| {
        // SAFETY: The file is valid during the call, and its position is not used.
        let file = unsafe { File::from_raw_file(file) };
        let ptr = UserPtr::from_ptr(uarg.cast());
        let mut arg = copy_from_user(ptr)?;
        let Query { range, broken } = Query::parse(&arg, is_regular(file))?;
        arg.type_ = F_UNLCK;
        arg.state = bindings::LAYOUT_LEASE_NONE as u16;
        arg.remaining_ms = 0;
        arg.generation = 0;
        if let Some(Range { start, last }) = range {
            // SAFETY: The file is a valid regular one, and `arg` is ours.
            unsafe { bindings::layout_get_lease(file.as_ptr(), start, last, broken, &mut arg) };
        }
        copy_to_user(ptr, &arg)?;
        Ok(0)
    })
}

#[cfg(CONFIG_LAYOUT_LEASE_KUNIT_TEST)]
#[kernel::macros::kunit_tests(layout_lease_request)]
mod tests {
    use super::*;

    fn argument(type_: u16, flags: u32, start: u64, len: u64) -> Argument {
        Argument {
            size: size_of::<Argument>() as u32,
            type_,
            flags,
            start,
            len,
            ..Default::default()
        }
    }

    fn range(start: u64, len: u64) -> Option<(u64, u64)> {
        let range = Range::parse(&argument(F_RDLCK, 0, start, len), true).ok()?;
        Some((range.start, range.last))
    }

    /// A flag that no command has.
    const UNKNOWN: u32 = 1 << 31;

    #[test]
    fn ranges() {
        assert_eq!(range(0, 0), Some((0, u64::MAX)));
        assert_eq!(range(5, 1), Some((5, 5)));
        assert_eq!(range(5, 0), Some((5, u64::MAX)));
        // With the last byte that a file can have.
        assert_eq!(range(MAX, 0), Some((MAX, u64::MAX)));
        assert_eq!(range(MAX, 1), Some((MAX, u64::MAX)));
        assert_eq!(range(0, MAX + 1), Some((0, u64::MAX)));
        assert_eq!(range(0, MAX), Some((0, MAX - 1)));
        // Behind it.
        assert_eq!(range(MAX, 2), None);
        assert_eq!(range(1, MAX + 1), None);
        assert_eq!(range(MAX + 1, 0), None);
        assert_eq!(range(u64::MAX, u64::MAX), None);
    }

    #[test]
    fn requests() {
        use bindings::{
            LAYOUT_LEASE_BREAK as BREAK,
            LAYOUT_LEASE_REVOKE as REVOKE,
            LAYOUT_LEASE_SEIZE as SEIZE,
            LAYOUT_LEASE_SEIZE_FS as SEIZE_FS,
            LAYOUT_LEASE_WAIT as WAIT, //
        };
        let parse = |type_, flags, is_regular| {
            Request::parse(&argument(type_, flags, 0, 1), is_regular).ok()
        };
        let range = Range { start: 0, last: 0 };
        let event = bindings::LAYOUT_EVENT_KEEP;
        for kind in [F_RDLCK, F_WRLCK] {
            for (flags, wait) in [(0, false), (WAIT, true)] {
                let set = Request::Set {
                    kind,
                    range,
                    event,
                    wait,
                };
                assert_eq!(parse(kind, flags, true), Some(set));
            }
        }
        assert_eq!(parse(F_UNLCK, WAIT, true), None);
        assert_eq!(parse(F_RDLCK, WAIT | REVOKE, true), None);
        assert_eq!(parse(F_UNLCK, 0, true), Some(Request::Unset(range, false)));
        assert_eq!(
            parse(F_UNLCK, REVOKE, true),
            Some(Request::Unset(range, true))
        );
        assert_eq!(parse(F_UNLCK, SEIZE, true), Some(Request::Seize(range)));
        assert_eq!(parse(F_UNLCK, BREAK, true), Some(Request::Break(range)));
        for flags in [REVOKE, SEIZE, SEIZE_FS, BREAK, UNKNOWN] {
            assert_eq!(parse(F_RDLCK, flags, true), None);
        }
        // One at a time, of those that there are, and of a type that there is.
        assert_eq!(parse(F_UNLCK, REVOKE | SEIZE, true), None);
        assert_eq!(parse(F_UNLCK, UNKNOWN, true), None);
        assert_eq!(parse(3, 0, true), None);
        for type_ in [F_RDLCK, F_WRLCK, F_UNLCK] {
            assert_eq!(parse(type_, 0, false), None);
        }
        // All of a filesystem, through any file, has no range.
        assert_eq!(parse(F_UNLCK, SEIZE_FS, true), None);
        for is_regular in [true, false] {
            assert_eq!(
                Request::parse(&argument(F_UNLCK, SEIZE_FS, 0, 0), is_regular),
                Ok(Request::SeizeFilesystem)
            );
        }
    }
    #[test]
    fn events() {
        use bindings::{
            LAYOUT_EVENT_KEEP as KEEP,
            LAYOUT_LEASE_EVENTFD as EVENTFD,
            LAYOUT_LEASE_REVOKE as REVOKE,
            LAYOUT_LEASE_SIZE_VER0 as VER0, //
        };
        let parse = |type_, flags, event_fd, pad, size| {
            let arg = Argument {
                event_fd,
                __pad: pad,
                size,
                ..argument(type_, flags, 0, 1)
            };
            match Request::parse(&arg, true) {
                Ok(Request::Set { event, .. }) => Ok(event),
                Ok(_) => Err(ENOENT),
                Err(error) => Err(error),
            }
        };
        let size = size_of::<Argument>() as u32;
        assert_eq!(parse(F_RDLCK, 0, 0, 0, size), Ok(KEEP));
        assert_eq!(parse(F_WRLCK, EVENTFD, 0, 0, size), Ok(0));
        assert_eq!(parse(F_RDLCK, EVENTFD, 7, 0, size), Ok(7));
        assert_eq!(parse(F_RDLCK, EVENTFD, -1, 0, size), Ok(-1));
        assert_eq!(parse(F_RDLCK, EVENTFD, KEEP, 0, size), Err(EBADF));
        assert_eq!(parse(F_RDLCK, 0, 7, 0, size), Err(EINVAL));
        assert_eq!(parse(F_RDLCK, EVENTFD, 7, 1, size), Err(EINVAL));
        assert_eq!(parse(F_RDLCK, 0, 0, 1, size), Err(EINVAL));
        assert_eq!(parse(F_RDLCK, EVENTFD, 0, 0, VER0), Err(EINVAL));
        assert_eq!(parse(F_UNLCK, EVENTFD, 7, 0, size), Err(EINVAL));
        assert_eq!(parse(F_UNLCK, REVOKE, 7, 0, size), Err(EINVAL));
    }

    #[test]
    fn queries() {
        use bindings::{
            LAYOUT_LEASE_BROKEN as BROKEN,
            LAYOUT_LEASE_NEXT as NEXT,
            LAYOUT_LEASE_REVOKE as REVOKE, //
        };
        let parse = |flags, start, len, is_regular| {
            Query::parse(&argument(F_UNLCK, flags, start, len), is_regular).ok()
        };
        let query = |start, last, broken| {
            Some(Query {
                range: Some(Range { start, last }),
                broken,
            })
        };
        assert_eq!(parse(0, 5, 5, true), query(5, 9, false));
        assert_eq!(parse(BROKEN, 5, 5, true), query(5, 9, true));
        assert_eq!(parse(NEXT, 5, 5, true), query(10, u64::MAX, false));
        assert_eq!(parse(BROKEN | NEXT, 5, 5, true), query(10, u64::MAX, true));
        // Nothing lies behind infinity.
        let nothing = Some(Query {
            range: None,
            broken: false,
        });
        assert_eq!(parse(NEXT, 5, 0, true), nothing);
        assert_eq!(parse(NEXT, MAX, 1, true), nothing);
        for flags in [REVOKE, UNKNOWN, BROKEN | UNKNOWN] {
            assert_eq!(parse(flags, 0, 0, true), None);
        }
        assert_eq!(parse(0, 0, 0, false), None);
    }
}
