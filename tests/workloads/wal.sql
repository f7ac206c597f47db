-- Nearly all of it is one transaction on a database with a write-ahead log: the cache is small, so that its pages go to
-- the log before it ends, an index is sorted in temporary files, and a part is rolled back.
PRAGMA journal_mode = WAL;
PRAGMA cache_size = 50;
PRAGMA temp_store = FILE;
PRAGMA wal_autocheckpoint = 500;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, value REAL, parent INTEGER);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000)
INSERT INTO item SELECT i, printf('item %d %x', i, (i * 2654435761) % 1000003), (i * 7919 % 10007) / 7.0, i / 3 FROM n;
SELECT 'filled', count(*), sum(value) FROM item;
CREATE INDEX by_name ON item (name);
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 5 = 1;
SAVEPOINT middle;
DELETE FROM item WHERE id % 3 = 1;
UPDATE item SET name = 'gone' WHERE id % 2 = 0;
SELECT 'in the middle', count(*), round(sum(value), 6), max(length(name)) FROM item;
ROLLBACK TO middle;
SELECT 'rolled back', count(*), round(sum(value), 6), max(length(name)) FROM item;
CREATE INDEX by_parent ON item (parent, value);
SELECT 'join', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 3';
DELETE FROM item WHERE id % 1009 = 13;
COMMIT;
SELECT 'committed', count(*), round(sum(value), 6), max(length(name)) FROM item;
BEGIN IMMEDIATE;
UPDATE item SET value = value / 3, name = upper(name) WHERE id % 7 = 2;
COMMIT;
SELECT 'second', count(*), round(sum(value), 6), max(length(name)) FROM item;
PRAGMA integrity_check;
