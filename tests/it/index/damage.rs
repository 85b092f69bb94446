//! What may happen to the tables of the index.

use proptest::prelude::*;
use proptest::sample::Index;
use rusqlite::{Connection, OptionalExtension as _, params};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Segment,
    Part,
}

impl Table {
    /// The table, its key, and the column that has a checksum.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Segment => ["segment", "first_position", "terms"],
            Self::Part => ["segment_part", "number", "bytes"],
        }
    }
}

/// A row of a table, in the order of the keys.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row {
    Oldest,
    Newest,
    Any(Index),
}

/// A part of a whole, in 65,536ths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part(pub(super) u16);

impl Part {
    fn of(self, whole: usize) -> usize {
        (whole * usize::from(self.0)) >> 16
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    Deleted,
    /// With all other rows.
    AllDeleted,
    /// In this part of the row's bytes.
    BitFlipped(Part),
    /// To this part of them.
    CutShort(Part),
    /// The last position of a segment is another one, or the number of a part.
    Renumbered,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Damage {
    pub(super) table: Table,
    pub(super) row: Row,
    pub(super) harm: Harm,
}

impl Arbitrary for Damage {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let table = prop_oneof![1 => Just(Table::Segment), 2 => Just(Table::Part)];
        let row = prop_oneof![
            2 => any::<Index>().prop_map(Row::Any),
            1 => Just(Row::Oldest),
            1 => Just(Row::Newest),
        ];
        let harm = prop_oneof![
            4 => Just(Harm::Deleted),
            1 => Just(Harm::AllDeleted),
            3 => any::<u16>().prop_map(|part| Harm::BitFlipped(Part(part))),
            2 => any::<u16>().prop_map(|part| Harm::CutShort(Part(part))),
            1 => Just(Harm::Renumbered),
        ];
        (table, row, harm)
            .prop_map(|(table, row, harm)| Self { table, row, harm })
            .boxed()
    }
}

impl Damage {
    /// Harms a row, if there is one.
    pub(super) fn strike(&self, file: &Connection) {
        let [table, key, _] = self.table.names();
        let Some(number) = self.row.find(file, table, key) else {
            return;
        };
        let execute = |sql: &str| file.execute(sql, [number]).expect("harmed");
        match self.harm {
            Harm::Deleted => execute(&format!("DELETE FROM {table} WHERE {key} = ?1")),
            Harm::AllDeleted => execute(&format!("DELETE FROM {table} WHERE ?1 = ?1")),
            Harm::BitFlipped(place) => alter(file, self.table, number, |bytes| {
                let bit = place.of(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }),
            Harm::CutShort(place) => alter(file, self.table, number, |bytes| {
                bytes.truncate(place.of(bytes.len()));
            }),
            Harm::Renumbered => execute(&match self.table {
                Table::Segment => {
                    format!("UPDATE {table} SET last_position = last_position + 1 WHERE {key} = ?1")
                }
                Table::Part => {
                    format!("UPDATE OR IGNORE {table} SET {key} = {key} + 1000 WHERE {key} = ?1")
                }
            }),
        };
    }
}

impl Row {
    fn find(self, file: &Connection, table: &str, key: &str) -> Option<i64> {
        let count = format!("SELECT count(*) FROM {table}");
        let count: u32 = file
            .query_row(&count, [], |row| row.get(0))
            .expect("counted");
        let count = count as usize;
        let offset = match self {
            _ if count == 0 => return None,
            Self::Oldest => 0,
            Self::Newest => count - 1,
            Self::Any(index) => index.index(count),
        };
        let sql = format!("SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET {offset}");
        let found = file.query_row(&sql, [], |row| row.get(0)).optional();
        found.expect("read")
    }
}

/// Changes the bytes of a row, unless it has gone meanwhile.
fn alter(file: &Connection, table: Table, number: i64, change: impl FnOnce(&mut Vec<u8>)) -> usize {
    let [table, key, column] = table.names();
    let read = format!("SELECT {column} FROM {table} WHERE {key} = ?1");
    let bytes = file.query_row(&read, [number], |row| row.get::<_, Vec<u8>>(0));
    let Some(mut bytes) = bytes.optional().expect("read") else {
        return 0;
    };
    if !bytes.is_empty() {
        change(&mut bytes);
    }
    let write = format!("UPDATE {table} SET {column} = ?2 WHERE {key} = ?1");
    file.execute(&write, params![number, bytes])
        .expect("written")
}
