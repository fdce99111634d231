"""Small facts and sums of science: symbols of elements, atoms in a formula, units (scipy.constants' values), one step
of physics. What is asked about one element, formula or quantity is asked once, in one wording, so in one part."""

import random
import re
from collections.abc import Iterator

from kdloop.packs.reading import Task

NUMBER = ({"check": "final_number", "tolerance": 0.01},)
EXACTLY = ({"check": "final_number"},)
WORD = ({"check": "ends_with_answer"},)
TWO_SPELLINGS = ("aluminium", "sulfur", "caesium")  # as answers they would be a matter of taste
ELEMENTS = """
H hydrogen, He helium, Li lithium, Be beryllium, B boron, C carbon, N nitrogen, O oxygen, F fluorine, Ne neon,
Na sodium, Mg magnesium, Al aluminium, Si silicon, P phosphorus, S sulfur, Cl chlorine, Ar argon, K potassium,
Ca calcium, Sc scandium, Ti titanium, V vanadium, Cr chromium, Mn manganese, Fe iron, Co cobalt, Ni nickel, Cu copper,
Zn zinc, Ga gallium, Ge germanium, As arsenic, Se selenium, Br bromine, Kr krypton, Rb rubidium, Sr strontium,
Y yttrium, Zr zirconium, Nb niobium, Mo molybdenum, Tc technetium, Ru ruthenium, Rh rhodium, Pd palladium, Ag silver,
Cd cadmium, In indium, Sn tin, Sb antimony, Te tellurium, I iodine, Xe xenon, Cs caesium, Ba barium, La lanthanum,
Ce cerium, Pr praseodymium, Nd neodymium, Pm promethium, Sm samarium, Eu europium, Gd gadolinium, Tb terbium,
Dy dysprosium, Ho holmium, Er erbium, Tm thulium, Yb ytterbium, Lu lutetium, Hf hafnium, Ta tantalum, W tungsten,
Re rhenium, Os osmium, Ir iridium, Pt platinum, Au gold, Hg mercury, Tl thallium, Pb lead, Bi bismuth, Po polonium,
At astatine, Rn radon, Fr francium, Ra radium, Ac actinium, Th thorium, Pa protactinium, U uranium, Np neptunium,
Pu plutonium, Am americium, Cm curium, Bk berkelium, Cf californium, Es einsteinium, Fm fermium, Md mendelevium,
No nobelium, Lr lawrencium, Rf rutherfordium, Db dubnium, Sg seaborgium, Bh bohrium, Hs hassium, Mt meitnerium,
Ds darmstadtium, Rg roentgenium, Cn copernicium, Nh nihonium, Fl flerovium, Mc moscovium, Lv livermorium,
Ts tennessine, Og oganesson
"""  # in the order of their atomic numbers
SYMBOLS = dict(pair.split() for pair in ELEMENTS.replace("\n", " ").split(","))  # symbol -> name
FORMULAS = (
    "H2O CO2 NH3 CH4 H2SO4 HNO3 H3PO4 NaCl KCl CaCO3 Na2CO3 NaHCO3 CaO MgO Al2O3 Fe2O3 Fe3O4 SiO2 TiO2 CuSO4 "
    "KMnO4 K2Cr2O7 C2H6 C3H8 C4H10 C8H18 C2H5OH CH3OH C6H6 C6H12O6 C12H22O11 C3H8O3 CH3COOH H2O2 N2O NO2 N2O5 SO2 "
    "SO3 PCl5 CCl4 CHCl3 SF6 AgNO3 BaSO4 ZnS PbO2 HgO LiOH NaOH KOH Na2SO4 K2SO4 MgSO4 CaSO4 AlCl3 FeCl3 CoCl2 "
    "NiSO4 C10H8 C8H10N4O2 C9H8O4 C8H9NO2 C17H21NO4 C6H8O7 C2H2 C2H4 N2H4 B2O3 LiAlH4 "
)
UNITS = (  # unit, the same in its base unit by scipy.constants, base unit
    ("kilometres", 1000.0, "metres"),
    ("millimetres", 0.001, "metres"),
    ("inches", "inch", "metres"),
    ("feet", "foot", "metres"),
    ("miles", "mile", "metres"),
    ("nautical miles", "nautical_mile", "metres"),
    ("minutes", "minute", "seconds"),
    ("hours", "hour", "seconds"),
    ("days", "day", "seconds"),
    ("pounds", "pound", "kilograms"),
    ("tonnes", 1000.0, "kilograms"),
    ("grams", 0.001, "kilograms"),
    ("litres", "liter", "cubic metres"),
    ("atmospheres", "atm", "pascals"),
    ("bars", "bar", "pascals"),
    ("hectares", "hectare", "square metres"),
    ("calories", "calorie", "joules"),
    ("kilowatt-hours", 3.6e6, "joules"),
)
LAWS = (  # question with two small numbers, what it comes to
    ("A car drives {a} metres in each second. How many metres does it drive in {b} seconds?", lambda a, b: a * b),
    ("A force of {a} newtons moves a box by {b} metres. How many joules of work are that?", lambda a, b: a * b),
    ("A current of {a} amperes flows through {b} ohms. How many volts lie across them?", lambda a, b: a * b),
    ("A body of {a} kilograms is accelerated by {b} metres per second squared. Which force in newtons is that?",
     lambda a, b: a * b),
    ("Two resistors of {a} and {b} ohms are in series. How many ohms have they together?", lambda a, b: a + b),
    ("A liquid of {a} degrees Celsius is heated by {b} degrees. How many degrees Celsius has it then?",
     lambda a, b: a + b),
    ("An atom has {a} protons and {b} neutrons. What is its mass number?", lambda a, b: a + b),
)  # fmt: skip


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    from kdloop.packs import part_of

    for kind in (symbols, atoms, units, laws):
        for key, task in kind(draw):
            prompt = f"{task.prompt} Reply with the answer alone."
            yield part_of(f"{kind.__name__} {key}"), Task(prompt, task.answer, task.checks)


def symbols(draw: random.Random) -> Iterator[tuple[str, Task]]:
    for symbol, name in SYMBOLS.items():
        if name in TWO_SPELLINGS or draw.random() < 0.5:
            yield symbol, Task(f"What is the chemical symbol of {name}?", symbol, WORD)
        else:
            yield symbol, Task(f"Which element has the chemical symbol {symbol}?", name, WORD)


def atoms(draw: random.Random) -> Iterator[tuple[str, Task]]:
    for formula in FORMULAS.split():
        counts = composition(formula)
        symbol = draw.choice(list(counts))
        prompt = f"How many {SYMBOLS[symbol]} atoms are in one unit of {formula}?"
        yield formula, Task(prompt, str(counts[symbol]), EXACTLY)


def composition(formula: str) -> dict[str, int]:
    """Atoms by symbol of a formula without brackets."""
    counts: dict[str, int] = {}
    for symbol, n in re.findall(r"([A-Z][a-z]?)(\d*)", formula):
        counts[symbol] = counts.get(symbol, 0) + int(n or 1)
    return counts


def units(draw: random.Random) -> Iterator[tuple[str, Task]]:
    from scipy import constants

    for unit, factor, base in UNITS:
        value = factor if isinstance(factor, float) else float(getattr(constants, factor))
        for n in draw.sample(range(2, 100), 18):
            yield f"{unit} {n}", Task(f"How many {base} are {n} {unit}?", plain(n * value), NUMBER)


def plain(number: float) -> str:
    """With six digits, and never in powers of ten."""
    text = f"{float(f'{number:.6g}'):.9f}"
    return text.rstrip("0").rstrip(".")


def laws(draw: random.Random) -> Iterator[tuple[str, Task]]:
    for i, (question, law) in enumerate(LAWS):
        for a, b in draw.sample([(a, b) for a in range(2, 31) for b in range(2, 13)], 90):
            key = f"{i} {sorted((a, b))}"  # all of them are the same with a and b changed over
            yield key, Task(question.format(a=a, b=b), str(law(a, b)), EXACTLY)
