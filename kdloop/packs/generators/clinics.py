"""What callers of a clinic complain of, labelled with the part of the body: a vertical of medicine, without diagnoses.
All sentences are made up."""

import random
from collections.abc import Iterator

from kdloop.packs.generators import labelled
from kdloop.packs.reading import Task

PROMPT = (
    "Classify the sentence by the part of the body that it is about, as one of: {labels}.\n\nSentence: {text}\n\nLabel:"
)
WHO = (
    "mother", "father", "son", "daughter", "uncle", "aunt", "brother", "sister", "neighbour", "grandfather",
    "grandmother", "husband",
)  # fmt: skip
CALLS = {
    "heart": (
        "The pulse of my {thing} races without any reason.",
        "The blood pressure of my {thing} was 190 this morning.",
        "My {thing} has a tightness in the chest on climbing stairs.",
        "The pacemaker of my {thing} is due for its yearly test.",
        "My {thing} had a bypass last year and wants it checked.",
        "There is an irregular beat whenever my {thing} lies down.",
        "My {thing} was told of a murmur at one of the valves.",
        "The ECG of my {thing} looked odd, the family doctor says.",
        "My {thing} gets palpitations after coffee.",
        "The ankles of my {thing} swell, and the doctor suspects weak pumping.",
        "My {thing} has high cholesterol and a narrowed coronary artery.",
        "My {thing} takes beta blockers and needs a new prescription.",
        "A stent was put into an artery of my {thing} in June.",
        "My {thing} has fainted, and the pulse was very slow.",
        "The cardiologist of my {thing} has retired.",
        "My {thing} is to have an echo of the left ventricle.",
    ),
    "skin": (
        "My {thing} has an itchy rash on both arms.",
        "A mole on the back of my {thing} has changed its colour.",
        "My {thing} suffers from eczema between the fingers.",
        "The acne of my {thing} gets worse and worse.",
        "My {thing} has a wart that does not go away.",
        "Red, scaly patches have come up on the elbows of my {thing}.",
        "My {thing} got a bad sunburn with blisters.",
        "The psoriasis of my {thing} needs another cream.",
        "My {thing} has hives after eating strawberries.",
        "A fungus has grown under the toenails of my {thing}.",
        "My {thing} has dry, cracked hands all winter.",
        "There is a boil on the neck of my {thing}.",
        "My {thing} is losing hair in round spots.",
        "The scar of my {thing} has become thick and purple.",
        "My {thing} wants some freckles looked at.",
        "An insect bite of my {thing} is red and oozing.",
    ),
    "eyes": (
        "My {thing} sees everything blurred since Monday.",
        "The glasses of my {thing} are too weak for reading.",
        "My {thing} has a cataract that should be taken out.",
        "Black spots float before my {thing} when looking at the sky.",
        "The pressure behind the cornea of my {thing} is too high: glaucoma.",
        "My {thing} has a stye on the upper lid.",
        "A splinter of metal flew under the eyelid of my {thing}.",
        "My {thing} cannot tell red from green.",
        "The retina of my {thing} was lasered last year.",
        "My {thing} has pink, watery lids every spring.",
        "The contact lenses of my {thing} burn.",
        "My {thing} squints at the blackboard.",
        "Lights have halos at night, my {thing} says.",
        "My {thing} has double vision when driving.",
        "The pupil of my {thing} is larger on one side.",
        "My {thing} needs drops, the tears have dried up.",
    ),
    "teeth": (
        "A filling of my {thing} fell out over lunch.",
        "My {thing} has a toothache that keeps the whole house awake.",
        "The gums of my {thing} bleed when brushing.",
        "My {thing} would like to have braces.",
        "A crown of my {thing} came loose on a toffee.",
        "The wisdom tooth of my {thing} has to come out.",
        "My {thing} broke an incisor at hockey.",
        "The denture of my {thing} does not sit well.",
        "My {thing} grinds at night and has worn molars.",
        "There is a cavity, the school's dentist told my {thing}.",
        "My {thing} feels a stab in the jaw with ice cream.",
        "The root canal of my {thing} was left half done.",
        "My {thing} wants tartar removed.",
        "An abscess has swollen the cheek of my {thing} beside a molar.",
        "My {thing} is afraid of the drill but needs a check of the bite.",
        "A milk tooth of my {thing} will not fall out.",
    ),
    "stomach": (
        "My {thing} has had heartburn after every meal.",
        "The bowels of my {thing} have not moved for five days.",
        "My {thing} vomits in the morning and cannot keep food down.",
        "An ulcer of my {thing} has come back.",
        "My {thing} gets cramps in the belly from milk.",
        "The liver values of my {thing} are too high.",
        "My {thing} is due for a colonoscopy.",
        "Diarrhoea has plagued my {thing} since the holiday.",
        "My {thing} has gallstones and pain after fatty food.",
        "The doctor thinks that my {thing} has coeliac disease and must avoid gluten.",
        "My {thing} feels bloated and full after two bites.",
        "Acid comes up into the throat of my {thing} at night.",
        "My {thing} has nausea and no appetite.",
        "The appendix of my {thing} was taken out, the gut still hurts.",
        "My {thing} swallowed a coin, it should pass by itself.",
        "The pancreas of my {thing} was inflamed last autumn.",
    ),
    "bones": (
        "My {thing} has fallen and the wrist may be broken.",
        "The new hip of my {thing} clicks.",
        "My {thing} has a slipped disc and cannot bend.",
        "The cast on the leg of my {thing} is too tight.",
        "My {thing} twisted a knee at football.",
        "The shoulder of my {thing} is out of joint.",
        "My {thing} has arthritis in all the fingers.",
        "The spine of my {thing} is crooked, says the school nurse.",
        "My {thing} tore a ligament of the ankle.",
        "A fracture of my {thing} has to be X-rayed again.",
        "My {thing} has osteoporosis and lost three centimetres.",
        "The heel of my {thing} hurts at each step: a spur.",
        "My {thing} cannot lift the elbow after tennis.",
        "Two ribs of my {thing} are cracked.",
        "My {thing} needs insoles for flat feet.",
        "The collarbone of my {thing} has a plate and screws.",
    ),
}  # fmt: skip


def tasks(draw: random.Random) -> Iterator[tuple[str, Task]]:
    return labelled.tasks(draw, PROMPT, CALLS, WHO)
