//! `EarlierTriangles`: of each triangle, the earlier ones of its plane that it overlaps, in an array that both backends
//! read.

/// Lists of triangles, by triangle.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct EarlierTriangles {
    /// Per triangle, the start of its list; empty if there is no list.
    starts: Vec<u32>,
    /// Each list is its length and as many triangles, in ascending order; the first list is empty.
    pub(crate) lists: Vec<u32>,
}

impl EarlierTriangles {
    /// `overlaps` are pairs of a later and an earlier triangle of the mesh, in ascending order; `sources` are the
    /// triangles of the mesh that are drawn, in ascending order.
    pub(crate) fn new(overlaps: &[[u32; 2]], sources: &[u32]) -> Self {
        if overlaps.is_empty() {
            return Self::default();
        }
        let mut starts = vec![0; sources.len()];
        let mut lists = vec![0];
        let drawn = |source: u32| sources.binary_search(&source).ok();
        for pairs in overlaps.chunk_by(|left, right| left[0] == right[0]) {
            let Some(later) = drawn(pairs[0][0]) else { continue };
            let start = lists.len();
            starts[later] = start as u32;
            lists.push(0);
            lists.extend(pairs.iter().filter_map(|pair| Some(drawn(pair[1])? as u32)));
            lists[start] = (lists.len() - start - 1) as u32;
        }
        Self { starts, lists }
    }

    /// Has no triangle an earlier one?
    pub(crate) fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Where the list of a triangle starts in `lists`; 0 if it is empty.
    pub(crate) fn start_of(&self, triangle: usize) -> u32 {
        self.starts.get(triangle).copied().unwrap_or(0)
    }

    /// The earlier triangles of a triangle.
    pub(crate) fn of(&self, triangle: u32) -> &[u32] {
        let start = self.start_of(triangle as usize) as usize;
        let Some(&len) = self.lists.get(start) else {
            return &[];
        };
        &self.lists[start + 1..=start + len as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_name_drawn_triangles() {
        let earlier = EarlierTriangles::new(&[[3, 1], [5, 1], [5, 2], [6, 4]], &[0, 1, 3, 5]);
        let lists: [&[u32]; 4] = [0, 1, 2, 3].map(|triangle| earlier.of(triangle));
        assert_eq!(lists, [&[][..], &[], &[1], &[1]]);
        assert!(!earlier.is_empty());
        let none = EarlierTriangles::new(&[], &[0, 1]);
        assert!(none.is_empty() && none.of(1).is_empty());
    }
}
