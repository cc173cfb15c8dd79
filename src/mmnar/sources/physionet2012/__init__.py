"""PhysioNet/CinC Challenge 2012: intensive care stays with up to 37 series over their first 48 h.

**Files.** ``set-a.tar.gz`` (or the folder ``set-a/``) with one text file a stay, ``Time,Parameter,Value``, beside
``Outcomes-a.txt``; so sets b and c. Whichever sets are there are read; of an archive and a folder the archive. Hidden
files and files that are no stays are passed over and counted.

**Identifiers.** A stay is a person: ``subject_id = hadm_id = stay_id = RecordID``.

**Time axis.** ``Time`` is hours and minutes since unit admission, which is placed on 1 January 2000. Known from that
very time: the challenge does not tell when a value was entered. Its text states that all are of the first 48 h, at
whose end the question is asked.

**What is never an input.** The outcome columns SAPS-I, SOFA, length of stay and survival: the two scores are made of
the same measurements, the other two are the future. Only in-hospital death is asked. The day of death is not told for
everybody, so the outcome stands one minute after the question. Survival and length of stay, where both are told, must
not deny the flag: death within the stay for a survivor, or after it for a death in hospital, makes the outcome unknown.

**Artefacts.** -1 is a missing descriptor. pH between 600 and 800 lacks its point (735 is 7.35); heights between 300
and 500 cm were taken for inches and converted once too often. Both are put right and counted. Other implausible
values are dropped, and counted, by the ranges in ``codes/physionet2012.csv``: among them temperatures of 0 °F written
as -17.8 °C, arterial pressures of 0 from a line that was flushed, and heights of 13 cm.

Source: Silva, Moody, Scott, Celi, Mark 2012, Predicting in-hospital mortality of ICU patients, Comput Cardiol
39:245-248; https://physionet.org/content/challenge-2012/1.0.0/.
"""

from mmnar.sources.physionet2012.reader import read_physionet2012

__all__ = ["read_physionet2012"]
