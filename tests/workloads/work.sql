-- A database that is built, indexed, queried and changed, in several transactions. The journal stays
-- in memory and all pages in the cache, so that the file holds what the program has written and
-- nothing that a program restarted at an earlier moment would have to read back.
PRAGMA journal_mode = MEMORY;
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA cache_spill = OFF;
PRAGMA cache_size = -200000;
PRAGMA temp_store = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, value REAL, parent INTEGER);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, printf('item %d %x', i, (i * 2654435761) % 1000003), (i * 7919 % 10007) / 7.0, i / 3 FROM n;
COMMIT;
SELECT 'filled', count(*), sum(value) FROM item;
CREATE INDEX by_name ON item (name);
CREATE INDEX by_parent ON item (parent, value);
SELECT 'indexed', min(name), max(name) FROM item;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 1;
DELETE FROM item WHERE id % 1009 = 13;
COMMIT;
SELECT 'step 1', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 1', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 3';
SELECT 'group 1', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 2;
DELETE FROM item WHERE id % 1009 = 26;
COMMIT;
SELECT 'step 2', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 2', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 6';
SELECT 'group 2', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 3;
DELETE FROM item WHERE id % 1009 = 39;
COMMIT;
SELECT 'step 3', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 3', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 9';
SELECT 'group 3', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 4;
DELETE FROM item WHERE id % 1009 = 52;
COMMIT;
SELECT 'step 4', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 4', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 12';
SELECT 'group 4', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 5;
DELETE FROM item WHERE id % 1009 = 65;
COMMIT;
SELECT 'step 5', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 5', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 15';
SELECT 'group 5', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 6;
DELETE FROM item WHERE id % 1009 = 78;
COMMIT;
SELECT 'step 6', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 6', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 18';
SELECT 'group 6', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 7;
DELETE FROM item WHERE id % 1009 = 91;
COMMIT;
SELECT 'step 7', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 7', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 21';
SELECT 'group 7', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 8;
DELETE FROM item WHERE id % 1009 = 104;
COMMIT;
SELECT 'step 8', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 8', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 24';
SELECT 'group 8', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 9;
DELETE FROM item WHERE id % 1009 = 117;
COMMIT;
SELECT 'step 9', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 9', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 27';
SELECT 'group 9', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 10;
DELETE FROM item WHERE id % 1009 = 130;
COMMIT;
SELECT 'step 10', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 10', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 30';
SELECT 'group 10', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 0;
DELETE FROM item WHERE id % 1009 = 143;
COMMIT;
SELECT 'step 11', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 11', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 33';
SELECT 'group 11', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
BEGIN;
UPDATE item SET value = value * 1.0001 + id % 7, name = name || '.' WHERE id % 11 = 1;
DELETE FROM item WHERE id % 1009 = 156;
COMMIT;
SELECT 'step 12', count(*), round(sum(value), 6), max(length(name)) FROM item;
SELECT 'join 12', count(*), round(avg(a.value - b.value), 9)
  FROM item a JOIN item b ON b.parent = a.id WHERE a.name > 'item 36';
SELECT 'group 12', parent % 50 AS g, count(*), round(total(value), 4)
  FROM item GROUP BY g ORDER BY 4 DESC LIMIT 3;
PRAGMA integrity_check;
