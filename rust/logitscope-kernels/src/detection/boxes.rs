//! Boxes in vectors, and their intersection over union.

use crate::error::{Error, Result};
use crate::rows;
use crate::threads::{self, Cancel};
use logitscope_simd::{Element, Kernel, Simd, Stored};

/// Elements of output in a piece of [`box_iou`].
const PIECE: usize = 1 << 14;

/// One box, or a vector of them: left and top, right and bottom with the sign turned, so that the sides of an
/// intersection are maxima all four, and the area.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sides<V> {
    pub left: V,
    pub top: V,
    pub minus_right: V,
    pub minus_bottom: V,
    pub area: V,
}

impl<T: Element> Sides<T> {
    /// What overlaps no box.
    pub(crate) const NOWHERE: Self = Sides {
        left: T::INFINITY,
        top: T::INFINITY,
        minus_right: T::INFINITY,
        minus_bottom: T::INFINITY,
        area: T::ZERO,
    };

    /// The box (x1, y1, x2, y2); `offset` is added to its sides.
    pub(crate) fn new<X: Stored<Wide = T>>(corners: &[X], offset: T) -> Self {
        let &[left, top, right, bottom] = corners else { unreachable!("checked: four numbers a box") };
        let [left, top, right, bottom] = [left, top, right, bottom].map(X::widen);
        let area = (right - left + offset) * (bottom - top + offset);
        Sides { left, top, minus_right: -right, minus_bottom: -bottom, area }
    }

    /// The same box in every lane.
    #[inline(always)]
    pub(crate) fn splat<S: Simd<T>>(&self, simd: S) -> Sides<S::Vector> {
        Sides {
            left: simd.splat(self.left),
            top: simd.splat(self.top),
            minus_right: simd.splat(self.minus_right),
            minus_bottom: simd.splat(self.minus_bottom),
            area: simd.splat(self.area),
        }
    }
}

impl<V: Copy> Sides<V> {
    /// Intersection over union, lane by lane; 0 where the union is. The operations are those of a plain loop in their
    /// order, so results have the same bits on every instruction set and as such a loop.
    #[inline(always)]
    pub(crate) fn iou<T: Element, S: Simd<T, Vector = V>>(&self, simd: S, other: &Self, offset: V) -> V {
        let zero = simd.splat(T::ZERO);
        let minus_width =
            simd.add(simd.max(self.left, other.left), simd.max(self.minus_right, other.minus_right));
        let minus_height =
            simd.add(simd.max(self.top, other.top), simd.max(self.minus_bottom, other.minus_bottom));
        let width = simd.max(simd.sub(offset, minus_width), zero);
        let height = simd.max(simd.sub(offset, minus_height), zero);
        let intersection = simd.mul(width, height);
        let union = simd.sub(simd.add(self.area, other.area), intersection);
        simd.select(simd.less(zero, union), simd.div(intersection, union), zero)
    }
}

/// A vector of boxes and their scores.
#[derive(Clone, Copy)]
pub(crate) struct Group<T: Element> {
    pub sides: Sides<T::Block>,
    pub scores: T::Block,
}

impl<T: Element> Group<T> {
    fn nowhere() -> Self {
        let Sides { left, top, minus_right, minus_bottom, area } = Sides::NOWHERE;
        let sides = Sides {
            left: T::block(left),
            top: T::block(top),
            minus_right: T::block(minus_right),
            minus_bottom: T::block(minus_bottom),
            area: T::block(area),
        };
        Group { sides, scores: T::block(T::NEG_INFINITY) }
    }

    /// The boxes as vectors.
    #[inline(always)]
    pub(crate) fn load<S: Simd<T>>(&self, simd: S) -> Sides<S::Vector> {
        Sides {
            left: simd.load(&self.sides.left),
            top: simd.load(&self.sides.top),
            minus_right: simd.load(&self.sides.minus_right),
            minus_bottom: simd.load(&self.sides.minus_bottom),
            area: simd.load(&self.sides.area),
        }
    }
}

/// A list of boxes, a vector of each number after the other; what fills up the last vectors overlaps nothing and has
/// a score of negative infinity.
pub(crate) struct List<T: Element> {
    groups: Vec<Group<T>>,
    len: usize,
}

impl<T: Element> List<T> {
    pub(crate) fn new() -> Self {
        List { groups: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn groups(&self) -> &[Group<T>] {
        &self.groups
    }

    pub(crate) fn groups_mut(&mut self) -> &mut [Group<T>] {
        &mut self.groups
    }

    pub(crate) fn push(&mut self, sides: Sides<T>, score: T) {
        if self.len.is_multiple_of(T::LANES) {
            self.groups.push(Group::nowhere());
        }
        self.len += 1;
        self.set(self.len - 1, sides, score);
    }

    pub(crate) fn get(&self, index: usize) -> (Sides<T>, T) {
        let (Group { sides, scores }, lane) = (&self.groups[index / T::LANES], index % T::LANES);
        let sides = Sides {
            left: sides.left.as_ref()[lane],
            top: sides.top.as_ref()[lane],
            minus_right: sides.minus_right.as_ref()[lane],
            minus_bottom: sides.minus_bottom.as_ref()[lane],
            area: sides.area.as_ref()[lane],
        };
        (sides, scores.as_ref()[lane])
    }

    pub(crate) fn set(&mut self, index: usize, box_sides: Sides<T>, score: T) {
        let (Group { sides, scores }, lane) = (&mut self.groups[index / T::LANES], index % T::LANES);
        sides.left.as_mut()[lane] = box_sides.left;
        sides.top.as_mut()[lane] = box_sides.top;
        sides.minus_right.as_mut()[lane] = box_sides.minus_right;
        sides.minus_bottom.as_mut()[lane] = box_sides.minus_bottom;
        sides.area.as_mut()[lane] = box_sides.area;
        scores.as_mut()[lane] = score;
    }

    /// Leaves only the first `len` boxes.
    pub(crate) fn truncate(&mut self, len: usize) {
        let end = self.len;
        self.groups.truncate(len.div_ceil(T::LANES));
        for index in len..end.min(self.groups.len() * T::LANES) {
            self.set(index, Sides::NOWHERE, T::NEG_INFINITY);
        }
        self.len = len;
    }
}

/// The number of boxes, if each has four finite coordinates in order and an area that is far from overflow.
pub(crate) fn check_boxes<X: Stored>(
    operation: &'static str,
    argument: &'static str,
    boxes: &[X],
    offset: X::Wide,
) -> Result<usize> {
    let (boxes, rest) = boxes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Error::Shape {
            operation,
            argument,
            got: format!("of {} elements", 4 * boxes.len() + rest.len()),
            expected: "four numbers a box".to_owned(),
        });
    }
    for (row, corners) in boxes.iter().enumerate() {
        let [x1, y1, x2, y2] = corners.map(X::widen);
        let in_order = x1 <= x2 && y1 <= y2 && [x1, y1, x2, y2].iter().all(|x| x.is_finite());
        let area = Sides::new(corners, offset).area;
        if !(in_order && (area + area).is_finite()) {
            let use_instead =
                if in_order { "an area below half of the largest number" } else { "x1 <= x2 and y1 <= y2" };
            return Err(Error::Argument {
                operation,
                argument,
                got: format!("({x1:?}, {y1:?}, {x2:?}, {y2:?}) in row {row}"),
                expected: format!("finite numbers, {use_instead}"),
            });
        }
    }
    Ok(boxes.len())
}

/// Fills the intersection over union of each box of `a` with each of `b`, rows of as many as `b` has.
///
/// Boxes are (x1, y1, x2, y2); `offset` is added to all widths and heights: 1 where coordinates are pixels that
/// belong to the box.
///
/// # Errors
/// [`Error`] for boxes that are none, lengths that do not fit, or when cancelled.
pub fn box_iou<X: Stored>(a: &[X], b: &[X], offset: f64, out: &mut [X], cancel: &Cancel) -> Result<()> {
    let offset = X::Wide::from_f64(offset);
    let rows = check_boxes("box_iou", "a", a, offset)?;
    let columns = check_boxes("box_iou", "b", b, offset)?;
    rows::check_len("box_iou", "out", out.len(), rows * columns)?;
    if out.is_empty() {
        return Ok(());
    }
    let mut list = List::new();
    for corners in b.chunks_exact(4) {
        list.push(Sides::new(corners, offset), X::Wide::ZERO);
    }
    let step = (PIECE / columns).max(1);
    let work = out.len();
    let pieces: Vec<_> = a.chunks(4 * step).zip(out.chunks_mut(step * columns)).collect();
    threads::for_each(pieces, work, cancel, Vec::new, |buffer, (a, out)| {
        X::Wide::dispatch(Overlaps { a, list: &list, offset, out: X::target(out, buffer) });
        X::settle(buffer, out);
    })
}

struct Overlaps<'a, X: Stored> {
    a: &'a [X],
    list: &'a List<X::Wide>,
    offset: X::Wide,
    out: &'a mut [X::Wide],
}

impl<X: Stored> Kernel<X::Wide> for Overlaps<'_, X> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd<X::Wide>>(self, simd: S) {
        let offset = simd.splat(self.offset);
        for (corners, out) in self.a.chunks_exact(4).zip(self.out.chunks_exact_mut(self.list.len())) {
            let one = Sides::new(corners, self.offset).splat(simd);
            for (group, out) in self.list.groups().iter().zip(out.chunks_mut(X::Wide::LANES)) {
                simd.store_partial(one.iou(simd, &group.load(simd), offset), out);
            }
        }
    }
}
