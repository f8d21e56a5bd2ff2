"""Messages that are a crisis, a concern or neither, in what words and what spelling they are put.

The sentences below were written for this project. They are examples of how people put things, some of them hard to
read; a rule that is changed must keep all of them on their side.
"""

import pytest
from safety_fixtures import assess, lines, said

from mh_support.safety import Assessment
from mh_support.safety.crisis_rules import CATEGORIES
from mh_support.safety.plain_words import plain_word, plain_words

# What people say in a crisis, by what it is about and how urgent it is.
CRISIS = {
    ("abuse", "crisis"): """
My husband hits me
my dad beats me when he drinks
I'm being hit at home
He choked me last night
my boyfriend punched me
I was raped last weekend
My uncle touches me at night
My stepdad molested me
He said he would kill me if I leave
She threatened to kill me
I'm scared to go home because of my father
I am afraid of my husband
my partner won't let me leave the house
My mother locked me in my room again and slapped me
I'm being sexually abused
I don't feel safe at home
he makes me have sex when I don't want to, he forced me to have sex
my boyfriend gets drunk and hits me
My father still hits me and I'm 16
every time he drinks he beats me up
he put his hands around my throat
he pushed me down the stairs yesterday
She throws things at me and punches me
My mom beats me with a belt
my teacher touched me
I was sexually assaulted at a party on Saturday
My cousin raped me
a man raped me
I get beaten at home
My husband says he'll kill me if I go
I'm scared of what my dad will do when he gets home
my parents hit me every day
my stepfather comes into my room at night
he controls everything and threatens me
My wife slaps me when she's angry
my boyfriend strangled me until I passed out
dad threw me against the wall
He raped me and I don't know what to do
My coach touched me in the locker room
my husband threatens to kill me
I am scared to go home tonight, my dad is drunk
He keeps me locked in the house
I'm being abused by my boyfriend
my mom hits me with a belt every night
My dad came home drunk and punched me in the face
my boyfriend grabbed me by the throat and choked me
my husband beats me in front of the kids
He forces me to have sex with him
my uncle has been touching me
my dad hits me and my 5 year old brother
he hits me and my dog
my dad hits me at home
he beat me to the ground
He held my neck against the wall.
My ex has been outside my house again.
He throws plates next to me.
""",
    ("abuse", "emergency"): """
He has a gun and he's outside my door
my ex is holding a knife
Someone is breaking into my house
He's going to kill me
I'm hiding in the bathroom from my husband
My dad pulled a knife on me
he's hitting me right now
My ex is outside with a gun
my husband has a knife and I locked myself in the bathroom
he's trying to break down the door
he is choking me and I got away for a minute, he's going to kill me
He's outside with a gun and says he'll shoot me
my boyfriend is hitting me right now
my dad has a knife, please help
he's got a gun and won't let us leave
help my dad is beating my mom right now
he has a gun and I called the police
my husband has a knife in the kitchen and he is drunk
""",
    ("eating disorder", "crisis"): """
I haven't eaten in five days
i haven't eaten anything for a week
I'm not eating for days at a time
I make myself throw up after dinner
I've been purging every day
I am starving myself and I can't stop
I've been living on water since Monday
I binge and then purge
I stopped eating three days ago, haven't had food for days
I haven't eaten since Sunday and it's Thursday
I only eat 300 calories a day
I throw up after every meal
I've not eaten in 4 days and I feel powerful
I use laxatives to lose weight
I'm making myself sick after I eat
I haven't eaten in 3 days and I'm proud of it
I've been making myself puke after meals
haven't eaten for almost a week
I starve myself to be thin
I have not eaten for four days
I keep throwing up after meals on purpose
I haven't eaten in days and I passed out
I haven't eaten in days, my dog is the only thing I get up for
I haven't had a proper meal since Sunday.
I stopped eating and nobody noticed.
""",
    ("harm to others", "crisis"): """
I want to kill my boss, I'm serious
I'm going to stab him
I have thoughts of hurting my baby
I keep thinking about killing my husband
I want to hurt people
I'm planning to kill them
sometimes I want to strangle my baby when it won't stop crying
I feel like killing my coworkers and I'm not joking
I want to make them all bleed
I'm so angry I'm going to beat him to death
I might hurt my kids if this goes on
I'm going to murder my neighbour
I can't stop thinking about stabbing my stepfather
I want to kill everyone at work
I am going to hurt my ex, I mean it
I hit my girlfriend last night and I hate it
I feel like I'm going to kill my roommate for real
I want to stab my stepdad
The baby was screaming and I wanted to shake him
""",
    ("harm to others", "emergency"): """
I'm going to shoot up my school
I'm bringing a gun to school tomorrow
I have a knife and I'm going to kill him
I am going to kill him tonight
tomorrow I will take my dad's gun to school
""",
    ("medical emergency", "crisis"): """
I can't breathe
i keep passing out
I've drunk a whole bottle of vodka and feel really sick
""",
    ("medical emergency", "emergency"): """
I drank bleach
My toddler swallowed some bleach
I have chest pain and my left arm hurts
My chest hurts and I'm sweating
I think I'm having a heart attack
I think I'm having a stroke
It won't stop bleeding
I'm bleeding heavily
I can't feel my left arm
My throat is closing
I'm coughing up blood
my friend isn't breathing
My dad collapsed and he won't wake up
there is blood everywhere and it won't stop bleeding
my baby is not breathing
Pain in my chest going down my arm
He's having a seizure on the floor
my husband passed out and is unresponsive
my face is drooping and my words are slurring
I have crushing chest pain
i think im having a stroke, my face feels numb
my wound won't stop bleeding
My grandma isn't breathing
I'm having an allergic reaction and my throat is swelling
I'm having chest pains and can't breathe
he's unconscious and not breathing
It started two weeks ago and now I have chest pain again
""",
    ("self-harm", "crisis"): """
I cut myself again last night
I want to hurt myself
I've been self-harming for months
I started cutting again
I can't stop cutting
I burned myself with a lighter on purpose
I have the urge to self harm
I cut my arms when I'm stressed
I relapsed and hurt myself
i keep hitting myself until i bruise
I scratch my skin until it bleeds, I need to hurt myself to cope
I cut myself with a razor because I deserve it
ive been cutting my thighs and hiding it
I feel like harming myself
I've been thinking of hurting myself and ending it
I've been hurting myself to feel something
I did it again, I cut
My arms are covered in cuts I made
I want to cut so bad
the urge to cut is so strong tonight
I burn my arms with cigarettes
I punch walls and hit myself in the head
after two years clean I cut myself last night
I stopped cutting for a year but the urges are back
I dig a blade into my skin when I'm upset
I hurt myself on purpose when I'm anxious
i've been cutting again and my mom saw
I want to burn myself
I self harm almost every day
When I'm numb I cut to feel something
I keep hurting myself and can't stop
I took a razor and cut my thigh yesterday
I have scars from cutting and I did it again today
I've been cutting my wrists to feel better
I hurt myself again, blood everywhere on the towel
Every time we fight I burn myself
i self harmed this morning
I want to scratch my skin off and hurt myself
I fell into depression and hurt myself
I cut myself in the kitchen because I hate myself
""",
    ("someone else at risk", "crisis"): """
My friend is suicidal
My sister wants to kill herself
my best friend told me he wants to die
My son is cutting himself
My daughter said she doesn't want to live anymore
My boyfriend is threatening to kill himself
I'm worried my brother will hurt himself
My roommate sent me a goodbye text
My mom tried to kill herself yesterday
a friend of mine is talking about suicide
She keeps saying she wants to end her life
he's been self-harming and I don't know what to do
my dad hits my mom
My brother is talking about killing himself
my girlfriend says she can't live without me and will kill herself if I leave
I think my friend is going to hurt herself
My daughter has been cutting herself
my husband wants to die
My student wrote that he doesn't want to be alive
A girl in my class is planning to kill herself
my ex texted that he's going to end his life
I found a suicide note in my son's room
How do I help a friend who is suicidal?
my mother tried to hang herself last week
He hits my little sister
My best friend wants to kill himself and I don't know what to say
My son told me he's suicidal
my girlfriend cuts herself
I'm afraid my dad is going to kill himself
A boy at school said he wants to end his life
my wife keeps talking about wanting to die
My brother attempted suicide last night
my online friend posted a goodbye message
she told me she wants to be dead
my brother said he wants to kill himself
My daughter is self-harming
I'm afraid my wife will kill herself
My friend keeps talking about suicide
She said if I leave she'll hurt herself.
My best mate has basically stopped eating.
""",
    ("someone else at risk", "emergency"): """
My friend took a bottle of pills
My sister overdosed
My friend is on the roof and threatening to jump
He has a gun to his head
My girlfriend is unconscious
she says she's going to kill herself tonight
My friend just swallowed a bunch of pills
my brother is standing on a bridge
My roommate overdosed and I don't know what to do
my wife has a gun and says she'll use it on herself
my friend is trying to kill himself right now
My boyfriend took a whole bottle of pills and won't wake up
my brother has a gun to his head
my friend overdosed on heroin
my mom took all her pills
""",
    ("suicide", "crisis"): """
I want to kill myself.
i wanna die
I'm going to kill myself
I have been thinking about suicide every day this week.
I feel suicidal and I don't know who to tell.
I'm suicidal
Lately I can't stop thinking about ending my life.
I just want to end it all
honestly i want to fucking die
I don't want to be alive anymore
I am planning to take my own life
Suicide seems like the only option left for me.
I have suicidal thoughts most nights
Last night I tried to hang myself
I wrote a suicide note and hid it in my desk
I've decided to commit suicide after my birthday
thinking of jumping off the bridge near my house
I keep imagining throwing myself in front of a train
Sometimes when I drive I think about driving into a tree
I want to shoot myself
I could just overdose and nobody would find me for days
I attempted suicide two weeks ago and nobody knows
i nearly killed myself yesterday
I'm not okay, I want to die
No, I want to die.
I don't want to be here, I want to be dead
Why shouldn't I just kill myself?
why not just kill myself
Give me one reason not to kill myself
I'm trying not to kill myself
I can't promise I won't kill myself
I'm scared I will end my life
I lied when I said I'm not suicidal
I was never suicidal until now
The voices tell me to kill myself
I don't want to wake up tomorrow
I wish I could go to sleep and never wake up
I hope I don't wake up in the morning
I wish I was dead
I wish I had never been born
Everyone would be better off without me
My kids would be better off if I was dead
no one would miss me if i was gone
Nobody would even notice if I disappeared
There's no reason to live anymore
I have nothing left to live for
Life isn't worth living
I'm tired of living
im so tired of being alive
I can't go on like this
I can't keep living like this
I don't see the point in living anymore
I don't want to exist
I just don't want to be here anymore.
I don't care if I live or die
I wouldn't mind if a truck hit me
I keep hoping a car hits me on my way to work
sometimes I pray that I get cancer and it's over
I'd rather be dead than feel like this
I would rather die than go on like this
I've lost the will to live
I hate being alive
Please let me die
I deserve to die
I'm ready to die
what is the point of being alive
I want to go to sleep forever
I want to unalive myself
gonna unalive tonight
I'm gonna kms
i want to kms so bad
thinking about ctb this weekend
I want to off myself
going to do myself in
I'm thinking of taking the easy way out
want to game end myself
i'd like to just sleep and never wake up again
I've been giving away my things because I won't need them
I gave my dog away so someone looks after him when I'm gone
I said my goodbyes to everyone
This is goodbye.
Goodbye everyone, I'm sorry
I wrote letters to my kids for when I'm gone
You won't have to worry about me anymore
I won't be here tomorrow
Soon I won't be a burden to anyone, I won't be here much longer
I've been getting my affairs in order
By the time you read this it will be over
this is my last message
See you on the other side
I just want to be with my mom in heaven
I have a plan to end my life
I know how I'm going to do it
what's the most painless way to die
how many pills would it take to die
How do I tie a noose
What is a lethal dose of Tylenol
I've been saving up my pills
I bought a rope and tied a noose
I w a n t  t o  d i e
i want to k!ll myself
I want 2 k1ll mys3lf
iwanttodie
#killmyself
I WANT TO DIEEEEEE
I want to kiiiillllll myself
i want to commit su1c1de
i feel sucidal
i wanna kil myslef
I want to end my l*fe, su*cide is all I think about, I'm su*cidal
I-want-to-die
i do not want to live any more
quiero morir
Ich will nicht mehr leben
je veux mourir
Eu quero morrer
My wife left and took the kids and now every night I sit in my truck and think about not being here.
Everything hurts and I've thought about how I'd do it.
i cant do it anymore im done with life
Honestly death sounds so peaceful right now
im just waiting to die
I keep googling ways to kill myself
What's the easiest way to end my life?
I'm thinking about swallowing all my pills
I could take all of my sleeping pills and it would be over
there is no point in me being here
There's no point in living
Nothing matters anymore and I want out of this life
I'm going to jump in front of a train
I think the world would be a better place without me
My family deserves better, they'd be happier if I wasn't around
I want it to be over. I want to be dead.
I have thought about crashing my car on purpose
I've been fantasizing about dying
I don't plan on being around for Christmas
you'll all be sorry when I'm dead
I feel like hanging myself
last week I stood on the bridge for an hour and almost jumped
I tried to kill myself two days ago and it didn't work
I tried to overdose in March and I want to try again
I used to be suicidal and now it's coming back
Ten years ago I was suicidal and tonight I feel it again
My brother killed himself and I want to join him
my therapist doesn't know i'm suicidal
I told my mom I want to die and she laughed
I said I want to die and nobody listened
I don't feel safe with myself
I'm afraid of what I might do to myself
I don't trust myself tonight
I need to not be alive
i wish someone would just kill me
please kill me
life is not worth it and I'm ready to go
Suicidal thoughts won't leave me alone
my suicidal thoughts are getting worse
I feel suicidal but I would never do it
im not gonna lie i wanna die
I'm not just sad, I'm suicidal
It's not that I hate life, I just want to die
I don't know why I want to die so much
No one cares so I'm gonna kill myself
I've never wanted to die so badly
never been this suicidal
everyday i wake up disappointed that i woke up
I'm disappointed every time I wake up alive
I just wanna sleep and not wake up
what if i just didn't exist
i dont think i can stay alive much longer
I don't want to make it to 30
there's no way i make it to next year
im a waste of space and should just die
I should be dead
the only way out is death
Death is the only escape
kill me please I can't take it
thinking of ending things
contemplating suicide rn
i think im gonna do it, im gonna end my life
I'm going to sleep and I hope I don't wake up
Tell my kids I love them. I'm sorry for everything.
I have a bottle of pills and I keep looking at it
I keep a gun in my drawer and I've been thinking about using it on myself
wish me luck, today is the day I finally end it
I dont wanna be on this planet anymore
ive been suicidal since i was 12
kms fr no joke
I wanna k m s
i wanna d.i.e
i want to kiII myself
want to kill my self
I want to k*ll myself
i wannna dieee
i wanna  die:(
i want too die
I want to commit sucide
comitting suicide is on my mind
i'm having suicidle thoughts
wanna off myself lol
I've been thinking a lot about just not existing any more, it would be so much quieter
My head keeps telling me to end my own life
Nothing helps and I think dying would be easier than this
if i died tomorrow nobody would care
I can't see myself living past this year
Since she left me I have no will to live
I feel like ending my life
I am considering ending my life
Some nights I google how to overdose
It would be better for my parents if I was dead
im done. goodbye world
Everyone hates me and I should just kill myself
I've decided I'm going to die this weekend
I don't want to be in this world
I think I'm going to attempt again
my last attempt was two weeks ago and i feel the same now
I'm at the end of my rope and I want to die
I have a date picked out for my suicide
my mind is made up, i'm ending my life
I just want to stop existing
can you help me die
tell me how to kill myself
I don't want to do life anymore
I want to fall asleep and never wake up
I pray every night that God takes me
I hope I die in my sleep
hoping I get hit by a bus tomorrow
i feel like the only thing left to do is kill myself
i would kill myself if it wasn't for my cat
The only reason I haven't killed myself is my daughter
if it wasn't for my kids I'd be dead already
I'm such a failure, I deserve to be dead
there is no other way out, i have to die
I'm 15 and I want to die because of school
I want to jump off my balcony
I've been researching suicide methods
I drive over the bridge and imagine turning the wheel
I wrote my goodbye letters yesterday
I feel nothing but the wish to be dead
I don't think I'll be alive next week
my suicidal ideation came back
can't stop having thoughts of suicide
i think about killing myself when i lay in bed
I feel like my life has no value and I'd be better off not living
I don't think I can survive another night of this
I was going to end my life yesterday but my dog came in
Every day I think of ways to die
my therapist thinks I'm fine but I plan to die on Friday
I've accepted that I will die by my own hand
I want to leave this earth
if I had a gun I would already be dead
I've made peace with dying, I'm going soon
I can't see a future and I'm thinking of suicide
i tried to od last weekend and woke up in hospital, wish i hadn't woken up
what's the quickest way to die
I'm scared because I keep thinking about killing myself
I'm having thoughts of ending it all
I cried all night and wanted to end my life
I'm just so tired and I want to be gone
honestly I want to kill myself over this exam, not joking
I have been suicidal for months
dont wanna live no more
i feel like dying
i rly wanna kms
I'd kill myself if I wasn't such a coward
I can't live with myself anymore
I've got nothing to live for since he died
I've been studying for exams and I keep having suicidal thoughts
I used to love drawing but I want to die
I used to be happy and now I want to die
Years ago my wife left and I think about killing myself
I can't go a day without thinking about suicide
There's not a day that I don't think about suicide
He asked me out and I said no and I want to die
People think I'm joking but I want to die
They posted it and I'm so embarrassed I want to die
I said my goodbyes to everyone because I can't go on living
Why don't I just kill myself
I don't see why I shouldn't kill myself
I never wanted to hurt anyone, I want to die
I don't hate life, I just want to die
I'm at work in the kitchen and want to die
my grandma died and I want to die too
I was reading and then I thought about ending my life
it's not that bad but I want to kill myself
i will not be ok, i am going to end my life
I'm worth more dead than alive.
The kids would do better with the insurance than with me.
They'd all have a lighter life if I wasn't in it.
If I was gone I think it would take weeks for anyone to notice.
I don't see the use of going on with it all.
I would sooner be where she is.
Driving home I think, if I just stopped steering it would be over.
Every night I ask for no morning for me.
""",
    ("suicide", "emergency"): """
I'm going to kill myself tonight
I am about to jump off the roof
tonight I'm going to end my life
I have a gun to my head
I've got the pills in front of me
the pills are next to me and I'm done
I'm standing on the bridge right now
im sitting on the edge of the roof
The noose is ready.
I have a knife against my wrist
I'm killing myself right now
im gonna hang myself in a few minutes
I just took a whole bottle of Tylenol
i took 30 pills
I swallowed all my antidepressants
I overdosed
I think I overdosed an hour ago
i've taken an overdose
Just took a handful of sleeping pills and vodka
I took too many painkillers and I'm scared
I've slit my wrists
i cut my wrist and it's deep
I got as far as putting the rope around my neck last night
I'm going to do it tonight, I have the pills. I want to die.
I already took the pills. 40 of them.
just took 2 bottles of aspirin
I took a lot of pills
took all my xanax, goodbye
I took 50 paracetamol an hour ago
I'm on the ledge and I'm going to jump
I'm at the bridge. I'm going to jump.
there's a loaded gun in my hand
I'm holding a razor to my wrist
I've tied the rope and I'm standing on the chair
I'm about to kill myself
in an hour I'll be dead
I've cut my wrists and there's blood everywhere
I have the rope in my hands and I'm going to do it tonight, kill myself
I just swallowed 20 sleeping pills
I took everything in the medicine cabinet
ive taken loads of paracetamol
I'm on the roof of my building. I'm going to jump off.
I am going to shoot myself tonight
about to hang myself
I loaded the gun. It's in my mouth.
I'm bleeding, I cut my wrists
Sometimes I hold the pills in my hand and wonder
I've taken 40 tablets and I'm getting sleepy
I'm standing on the edge of a bridge
I'm going to shoot myself in a few minutes
I just drank a bottle of pills, I mean swallowed a whole bottle of pills
I'm killing myself over him tonight
I took all the pills the doctor gave me
I took all my prescription pills
I took 30 pills and they want to take me to the hospital
""",
}

# Pain, bereavement, the past and jokes: not a crisis, and not nothing.
CONCERN = """
I gave away my old clothes to charity
I'm giving away my things because I'm moving abroad
The song lyrics say I want to die but it's just a song
Dead battery again, kill me now lol
ugh mondays lol kill me
I wanted to die of embarrassment when I tripped
I'd rather die than eat broccoli
My brother killed himself last year
My dad took his own life when I was ten
I lost my best friend to suicide
My cousin died by suicide in March
I used to be suicidal
I feel hopeless
I feel worthless and empty
I hate myself
I can't do this anymore
I feel like a burden
I just want the pain to stop
I want to disappear
They told me to kill myself at school
this homework, kms lol
I want to die lol
Someone at school told me to go kill myself
If things don't change I'm going to end it
I think about death all the time and how to make it happen
I'm not afraid of death anymore, I'm looking forward to it
It should have been me who died
I want to end things. My life I mean.
my life is over
I have trouble breathing because of my cold, allergies again
I had chest pains but the doctor said it was anxiety
I feel like I can't breathe when I'm laughing this hard
Why do people commit suicide?
My grandpa died by suicide before I was born
Robin Williams died by suicide
My story is about a man who wants to end his life
I won't be here tomorrow, I have a dentist appointment, talk Thursday
I'm recovering from an eating disorder and doing well
I was abused as a child, and therapy has helped me a lot
My dad used to hit me when I was a kid
My ex used to beat me, I'm safe and far away now
I was raped years ago and I'm still healing
My friend lost her brother to suicide, how can I comfort her?
We lost our neighbor to suicide last month
I want to talk about my aunt, she took her own life in 1998
My grandfather shot himself some great photos in Africa
I want to die of shame lol
My coworker's son overdosed and died
My pet rabbit has stopped eating for two days
I can't breathe in this dress
Ten years ago I tried to kill myself and I'm not fine
"""

# What sounds alike and is not.
SAFE = """
I was dying of laughter at that video
I'm dying to see the new film
You're killing it at work!
This exam is killing me
My back is killing me today
My feet are killing me
I'm not suicidal
I'm not suicidal, I'm just tired
I would never hurt myself
I'd never kill myself
I have no thoughts of suicide
I don't want to die
I'm not going to kill myself, don't worry
I have never thought about suicide
I don't have any suicidal thoughts
I've never self-harmed
I haven't had any urges to hurt myself
Years ago I was suicidal, I'm well now
Ten years ago I tried to kill myself, and I'm so glad I survived
I used to cut myself but I've recovered and life is good
I was suicidal when I was 15 but I'm doing great these years
As a teenager I used to self-harm; I'm in recovery and feel good
How do I kill a process on Linux?
kill -9 doesn't work on this zombie process
The parent process must kill its children
Should I kill the old server or restart it?
I want to kill this bug in my code
I need to kill time before my train
I quit smoking three weeks ago
I'm trying to quit smoking and it's hard
I want to give up smoking
I would kill for a coffee
That joke killed me
The cat killed a mouse
My phone died
My battery is about to die
My plants are dying
I nearly died of embarrassment
I almost died laughing
I died laughing
If I don't get coffee I'm going to die lol
My mom is going to kill me when she sees my grades
My boss is going to kill me if I'm late
I could kill my brother for eating my leftovers lol
I kill zombies in the game all day
We killed the final boss together
We need to kill two birds with one stone
I cut myself shaving this morning
I cut myself while cooking dinner
I accidentally cut my finger on glass
I hurt myself at the gym
I hurt my back lifting boxes
I burned myself on the stove
I burned myself out at work
I've been beating myself up about the interview
I could kick myself for missing it
Cut me some slack
I'm cutting carbs
I'm cutting back on sugar
I have been cutting class
I'm thinking about cutting my hair
I want to cut ties with my old friends
I'm cutting down on drinking
I shot myself in the foot with that email
I was drowning in work
I'm drowning myself in work to avoid thinking about her
I've been killing myself at the gym
I'm killing myself trying to finish this thesis
He's drop dead gorgeous
I'm dead tired
I'm dead serious
The deadline is tomorrow
Over my dead body
This is a dead end job
I'm scared to death of spiders
I'm worried sick about the exam
I want to die my hair blue
That dress is to die for
I'd die for my kids
I love you to death
I feel like death warmed up
My grandfather died last month and I miss him
My mother died of cancer
My dog died yesterday and I'm heartbroken
My best friend passed away
I'm grieving my father
I went to a funeral today
I'm afraid of dying
I'm scared my dad will die
I'm so sad about my divorce
I feel lonely
I feel really down today
I've been crying a lot
I'm anxious about my job interview
I think I have depression
I was diagnosed with bipolar disorder
I had a panic attack yesterday
I can't sleep
I can't sleep before exams
I don't want to wake up early tomorrow
I don't want to wake up at 6 for work
I don't want to live here anymore, the rent is too high
I don't want to live with my parents
I don't want to live in this city anymore
I don't want to live alone
I'm tired of living in this town
I'm tired of living with roommates
My kids are my reason to live
I want to live a long life
I want to live
I have so much to live for
I'm glad to be alive
I want to be happy
I want to end my relationship
I want to end it with my boyfriend
I want to end my contract early
I want to leave my job
I want to disappear to a beach for a weekend
I'm saying goodbye to my coworkers on Friday
I said goodbye to my grandma before the surgery
Goodbye and thanks for your help
Bye, talk to you tomorrow
Good night, I'm going to sleep
This is my last day at work
Take care of my dog while I'm away
I took two pills for my headache
I took my pills this morning
I took all my meds for the day as prescribed
I take 20 mg of Prozac every morning
My doctor changed my medication
Should I take my antidepressants with food?
I took ibuprofen for my cramps
I took a whole box of old books to charity
I overdosed on chocolate yesterday
I binged the whole series
I'm starving, what's for dinner?
I haven't eaten since breakfast
I forgot to eat lunch
I haven't eaten meat for years
I'm on a diet and I hate it
I'm trying to lose weight
I threw up after the roller coaster
That movie gave me a heart attack lol
My dad had a heart attack last year and is fine now
I nearly had a heart attack when I saw the bill
She's a heartbreaker
My heart is broken
I laughed so hard I couldn't stop
My nose is blocked, allergies
He beat me at chess
My brother beat me to the last slice
My sister beats me at tennis every time
He hit me up on Instagram
It hit me that she's gone
The news hit me hard
I got hit by the news of her death
She punched above her weight in that debate
We shot some hoops
I'm going to shoot her an email
I'm going to shoot him a message
Shoot me an email when you're free
Let's shoot the video tomorrow
We had a blast
He crushed it
I bombed my exam
I'm fighting with my wife about money
My husband and I argue a lot
My boss yelled at me
I'm afraid of my exam results
I'm afraid of flying
He has a gun license for hunting
My dad has a knife collection
I'm holding a knife set I bought for my kitchen
I volunteer on a suicide hotline
I'm writing an essay about suicide prevention
I watched Suicide Squad last night
I read an article about suicide rates
My class is learning about self-harm awareness
In the book, the hero wants to die
My character in the game wants to kill himself
I ran 10 kms today
It is five kms from here
How do I rotate an AWS KMS key?
Our town is 3 kms away
I'm feeling better today, thank you
Thank you, that helps
What can I do to calm down?
How do I make friends in a new city?
I want to stop feeling so stressed
I can't stand my job
I'm exhausted by the baby
I have a plan to visit my sister
I have a plan to save money
I bought a rope for climbing
I love bridges, I'm standing on the bridge taking photos of the sunset
The roof is leaking
I'm on the bus
Let's jump in the pool
He jumped to conclusions
I almost jumped out of my skin
I hang out with friends
I need to hang the laundry
I hung up on him
My picture is hanging crooked
That's overkill
I'm so embarrassed I could die
I would die of boredom there
I could die happy after that concert
He was a suicide bomber on the news
My team committed to the project
It was political suicide for the minister
Career suicide, that's what it was
Is it normal to feel nothing?
My self esteem is low
I'm working on my self-care
I'm harmless, I promise
Nobody hurt me
I hurt her feelings and I feel bad
I don't want to hurt anyone
I don't want to hurt his feelings
My wife and I have been fighting since the baby came and I feel like a bad dad.
I've been so low since I lost my job, I can barely get out of bed.
Work is murder at the moment.
I could murder a pizza right now
My kids are driving me crazy
I'm going to lose my mind if this printer jams again
I feel dead on my feet after the night shift
The heat is killing me
These shoes are killing me
My teacher will kill me if I hand this in late
Mum's gonna kill me lol
He killed it on stage last night
That was a killer workout
I hit the gym every day
I hit rock bottom last year but I climbed out
My anxiety hits me in the mornings
It hits me hard when I'm alone
My car hit a deer
I was hit by a car when I was six and I still limp
He got beaten in the finals
I was beaten by a better player
My heart beats me awake at night
I'm scared of my exam
I'm afraid of what people think
I'm afraid my husband doesn't love me
I'm scared of the dark
I'm terrified of public speaking
I'm afraid of my feelings
When I get anxious my chest feels tight
I couldn't breathe through my nose
I've stopped eating meat
I haven't eaten out for weeks
I can't eat gluten
I'm fasting for Ramadan
I'm not hungry lately
I'm eating too much when stressed
I hate how I look in photos
I got a cut on my finger
The budget cuts are hurting us
My hours were cut
They cut my salary
She cut me off in traffic
I cut my hair short
I cut my own hair yesterday
I cut my leg on a rock while hiking
My knee hurts from running
I hurt my knee
Love hurts
That comment really hurt me
I don't mean to hurt anyone
I'd never hurt a fly
I don't want to hurt her but I have to break up
I don't think I'm suicidal
I don't feel suicidal at all
no suicidal thoughts, just sad
I am not thinking about suicide
I wouldn't kill myself
I'm not going to hurt myself or anyone else
I've not had suicidal thoughts
I haven't wanted to die in years
I no longer want to die
I stopped wanting to die
I'm not in danger
I'm safe
I don't want to harm myself
My doctor asked if I was thinking of suicide and I said no
The form asked about suicidal thoughts
Are you suicidal?
What does suicidal mean?
Do you think bridges should have nets to prevent suicide?
I teach a class on suicide prevention
We had suicide prevention training at work
I'm a nurse and work with suicidal patients
I read that suicide rates are rising
In my novel, a woman kills her husband
The villain says "I will kill you all" in the movie
I play a game where you kill dragons
I want to kill the lights and sleep
kill the thread and restart the daemon
How do I terminate a child process?
The server died and I had to kill it
My laptop is dead
The party was dead
My love life is dead
I'm dead lol
I'm literally dying of laughter
I'm dying for a holiday
I'm dying of curiosity
I'm so hungry I could die
I thought I would die of boredom
I was mortified, wanted the ground to swallow me
I wish I were a bird
I wish I was there with you
I wish I was better at maths
I wish I could disappear from this boring meeting
I wish I could sleep
I hope I get into college
I hope I don't fail
I don't want to get up in the morning
I don't want to go to school
I don't want to go on the trip
I don't want to go on like strangers
I don't want to be here at this party
I can't go on vacation this year
I can't go on dates anymore
I can't live without coffee
I can't live on this salary
I can't live like a student forever
I can't take this job anymore
I'm tired of life in the city
I'm tired of living out of a suitcase
I'm sick of my flat
I'm done with my ex
I'm done with school
I'm so done lol
no point in arguing with him
there's no point in studying
What's the point of this exercise?
what's the point of marriage?
nobody likes my cooking
nobody cares about the environment
I feel like nobody listens to me at work
My kids would be better off in another school
He's better off without me at the office
We are better off without him
I gave my dog a bath
I gave away my tickets
I gave all my old toys to my nephew
I gave everything in that game
I'm giving up coffee
I'm giving up on dating
She gave away the ending
Give my regards to your family
We said our goodbyes at the airport
Goodbye party for my boss is tomorrow
I said goodbye to my ex
It's time to say goodbye to summer
This is my last message for today, good night
I'm gone for the weekend
When I'm gone to work, my dog barks
I'm leaving the world of finance
I want to leave this town
I want to leave my husband
I want out of this lease
I'm in a better place now
Tonight I'm going to cook
I'll do it tonight
I have the pills from the pharmacy for my cold
I took my vitamins
I took some medicine for my cold
I took 2 tablets of paracetamol for a headache
I took three ibuprofen today, is that ok?
I had too many drinks last night
I took too many days off
I took a lot of photos of the bridge
I took all my exams
The vet gave my cat pills
My grandmother takes a lot of pills every day
I forgot to take my pills
I spilled bleach on my shirt
I clean with bleach
I had my first panic attack and thought I was dying
I survived cancer
My friend's dog died and she's sad
My friend is depressed, how can I support her?
My sister is pregnant
My brother is in the army and has a gun
My dad is a cop
My neighbor has a bat and ball for the kids
He has a knife set
He threatened to quit
She threatened to leave me
My boss threatened to fire me
My landlord threatened me with eviction
They locked me out of my account
He locks me out of decisions
My kid hit me with a pillow
My toddler hits me when he's angry
My cat bites me
I want to kill the engine
I want to kill my diet with this cake
I'm going to strangle this printer
I want to punch a wall
I was so angry I yelled at my kids
I could strangle him lol
I need to beat my brother at FIFA
I'm going to destroy them at the match
I'm going to shoot my shot with her
I want to shoot a short film
My therapist saved my life
Thanks to you I feel safe
I had the worst day at work and just need to vent
My boyfriend broke up with me and I can't stop crying
I'm so stressed about money that my stomach hurts
My chest tightens when I think about the presentation
I feel empty since my kids left for college
My mum has dementia and it breaks my heart
I think my cat is dying and I don't know what to do
I killed my houseplants again
We're killing the budget for that feature
kill the music please
The referee killed the game
I'd kill to have your hair
If I eat another bite I'll die
I'm dying to know what happened
My grandma's dying and I can't be there
I'm not going to lie, I'm tired
I'm not afraid of hard work
I was scared to death on that ride
You scared me half to death
That song slays me
I'm dead inside before coffee lol
I want to bury my head in the sand
I'm drowning in debt
I'm drowning in homework
I feel like I'm drowning
He stabbed me in the back by taking credit for my work
My friend stabbed me in the back
I shot down his idea
I took a shot at the job
I took a shot of espresso
I got shot down by my crush
They hung me out to dry
I'm hanging in there
I'm at the end of my rope with this kid's homework
I jumped at the chance
I'm jumping into a new career
I jumped off the diving board
Bungee jumping off a bridge was amazing
I'm afraid of bridges
I live near the train tracks and can't sleep from the noise
I missed my train and was late
A truck almost hit me on my bike today, I'm still shaking
My car was hit by a truck in the parking lot
I hope I get hit with some good news
I hope it doesn't kill me lol
I'm glad I didn't die in the accident
I don't want to die, I want to live to see my kids grow
I don't ever want to hurt myself again, I'm doing much better now
I'm five years clean from self-harm
I have not thought about suicide in years
I'm no longer suicidal thanks to therapy
It has been ten years since my suicide attempt and life is good
My therapist asked me about suicide and I told her no
Is suicide a sin?
What causes suicide?
My patient is on suicide watch
I'm a paramedic and I saw an overdose today
My dog swallowed a sock
My son swallowed a coin, the doctor says it's fine
I take my pills every night
I forgot my pills
How many pills of vitamin D should I take?
I took one of my sleeping pills and went to bed
I take two tablets for migraine
I threw up because of food poisoning
I can't eat spicy food
I haven't eaten all day, too busy
I skipped breakfast
I want to lose 5 kilos before summer
My kid won't eat vegetables
I cut my lip
I cut my finger chopping onions
I cut coupons
My boss cut my hours
I got burned by my ex
I burned my hand on the pan
I burned the dinner
My sunburn hurts
I hit my head on the shelf
I hit the wall at mile 20
I'm beat
My ex hits me up every weekend
My boyfriend beats me at every video game
He punched the clock
My parents grounded me
My mom yells at me
My husband snores and I can't sleep
My wife threatened to throw out my old records
My neighbour plays loud music, I could scream
I'm so mad I could spit
I want to scream at my boss
I hate my boss
I hate mondays
I wish I could sleep for a week
I want to sleep all day
I don't want to wake up from this dream
I don't want to go home for the holidays
I don't want to be a lawyer anymore
I don't want to be here in this office anymore
I don't want to exist on ramen
Nothing to live up to here
She has a lot to live for
I live for the weekends
Say goodbye to my diet
Time to say goodbye, see you tomorrow
Goodbye!
Thank you for everything, goodbye
I gave my notice at work
I wrote a letter to my future self
I left a note on the fridge
I made a will with my lawyer because we bought a house
I have a plan for the exam
I know how I'm going to do it: study every night
Tonight is the night, I'm proposing
I'm going to do it tonight, I'm asking her out
It'll all be over soon, one more exam
I'm ready to go
I'm ready to leave this job
We had a killer time
The suspense is killing me
I'm dying for a cigarette
I could murder a burger
My inbox is killing me
The kids beat me at Mario Kart
My sister hit me with a snowball
I hit my funny bone
I hit send too early
My boss hit on me and it made me uncomfortable
I'm afraid of the doctor
I cut my finger while cooking
I cut the cake
I got cut from the team
I've cut down on sugar
I'm going to kill it tomorrow at the interview
How do I kill weeds in my garden?
The frost killed my tomatoes
My computer keeps dying
I think my car is dying
I want to end this conversation
I want to end my subscription
I ended things with my girlfriend
We ended it on good terms
I'm going to end it with him tonight
I had suicidal thoughts as a teenager, but not in the last ten years, I'm fine now
I used to self-harm years ago and recovered
I've never thought about killing myself
I would never attempt suicide
I don't want to hurt myself
No, I'm not thinking about suicide
My uncle died of an overdose
I lost my wife last spring
I miss my dead husband
It is the anniversary of my son's death
I'm on a suicide prevention team
I'm writing a paper on self-harm in schools
My toddler is a picky eater
I'm trying intermittent fasting
I took an aspirin
I took my dog to the vet and he got pills
She took all the credit
He took a whole pack of gum
I need to take a break
I took a beating in the stock market
My heart skipped a beat when I saw him
I have butterflies in my stomach
I broke my arm and it hurts
I choked during my speech
The steak was choking me, I had to cough
He took my breath away
The gun show is in town
My brother bought a hunting knife
I'm on the edge of my seat
I'm at the edge of burnout
I'm fine
I beat her at last, five sets to four
A word that cut deeper than the rest
The lift door closed and I counted the floors
I would rather be where the music is
Our team is better off with a new coach than with the old one
I have the insurance papers ready
My mother is outside parking the car
He follows me on Instagram
She stopped eating meat last year
I held my breath
"""


# --- One sentence


@pytest.mark.parametrize(
    ("category", "level", "sentence"),
    [(category, level, sentence) for (category, level), text in CRISIS.items() for sentence in lines(text)],
)
def test_a_crisis_is_seen(category, level, sentence):
    assessment = assess(said(sentence))
    assert (assessment.level, assessment.is_crisis) == (level, True)
    assert category in assessment.categories


@pytest.mark.parametrize("sentence", lines(SAFE))
def test_what_sounds_alike_passes(sentence):
    assert assess(said(sentence)) == Assessment("none", frozenset(), ())


@pytest.mark.parametrize("sentence", lines(CONCERN))
def test_pain_is_a_concern(sentence):
    assessment = assess(said(sentence))
    assert (assessment.level, assessment.is_crisis) == ("concern", False)


def test_there_are_enough_examples():
    crises = [sentence for text in CRISIS.values() for sentence in lines(text)]
    assert len(set(crises)) == len(crises) >= 500
    assert len(set(lines(SAFE))) == len(lines(SAFE)) >= 500
    assert {category for category, _ in CRISIS} == set(CATEGORIES)


@pytest.mark.parametrize(
    "disguise",
    [
        "I don\u2019t want to live anymore",  # a curly apostrophe
        "I can\u00e2\u20ac\u2122t go on anymore",  # the same, broken by a wrong encoding
        "I want to k\u200bill my\u200bself",  # zero-width spaces
        "I want to kill my\u00adself",  # a soft hyphen
        "\uff49 \uff57\uff41\uff4e\uff54 \uff54\uff4f \uff44\uff49\uff45",  # full-width letters
        "i want to \U0001d41d\U0001d422\U0001d41e",  # bold ones
        "I want to \u0501i\u0435",  # Cyrillic letters that look Latin
        "I want to di\u0301e\u0308",  # accents
        "I want to \u2026 kill \u2026 myself",
        "I want to\nkill\nmyself",
        "I want to,,, kill---myself",
        "i want to kill;myself",
        "I WANT TO DIE!!!!!!",
        "i wanna d1e",
        "i want to k1ll mys3lf",
        "i want to k!ll myself",
        "i want to kiII myself",
        "i want to k*ll myself",
        "i want to commit su!cide",
        "i want to commit $u1c1de",
        "thinking about s-u-i-c-i-d-e",
        "thinking about s.u.i.c.i.d.e",
        "i want to d i e",
        "i w a n t t o k i l l m y s e l f",
        "iwanttokillmyself",
        "#killmyself",
        "i want to dieeeeee",
        "i wanttt to kiiiilllll myself",
        "i feel suicdal",
        "i feel suiicdal",
        "i want to kill mysefl",
        "i want to comit suicid",
        "i do not want to live any more",
        "gonna end my life",
    ],
)
def test_a_disguise_is_seen_through(disguise):
    assessment = assess(said(disguise))
    assert (assessment.level, assessment.categories) == ("crisis", {"suicide"})


@pytest.mark.parametrize(
    "innocent",
    [
        "That was so funny \U0001f480\U0001f480",
        "dying \U0001f602\U0001f602",
        "a i r p o r t",
        "Meet me at 3am, r2d2, b4 10!",
        "d.o.b.",
    ],
)
def test_what_is_no_disguise_is_left_alone(innocent):
    assert assess(said(innocent)).level == "none"


# The classifier leaves a word or two to the rules.
@pytest.mark.parametrize(
    ("level", "category", "messages"),
    [
        (
            "crisis",
            "suicide",
            "suicidal; Want death.; unalive me \U0001f602; die tonight; Goodbye forever; got rope; took pills",
        ),
        (
            "crisis",
            "suicide",
            "suicidal \U0001f480; suicide now; suicidal again; suicide plan; want die; just die; end my life",
        ),
        (
            "concern",
            "suicide",
            "end it; no point; I'm done; bye everyone; kms; kill me; help; can't continue; gone soon",
        ),
        (
            "crisis",
            "self-harm",
            "cut myself; cutting again; Slit wrists; self-harm; selfharming; slit throat; cut deep",
        ),
        ("concern", "self-harm", "cutting"),
        (
            "crisis",
            "abuse",
            "he hits; Dad hits me; raped me; was raped; Not safe.; I'm unsafe; choking me; he'll kill me; rape",
        ),
        ("concern", "abuse", "abused; he's here; hits me"),
        ("emergency", "abuse", "kidnapped; I'm kidnapped; he's armed"),
        ("crisis", "harm to others", "kill everyone; stab him; kill mom; bomb school; shake baby"),
        ("concern", "harm to others", "kill him"),
        ("crisis", "eating disorder", "purging; purged again"),
        ("concern", "eating disorder", "not eating; can't eat"),
        (
            "emergency",
            "medical emergency",
            "overdosed; OD'd; Thank you. Overdosed.; 999; call 999; need ambulance; ambulance please; emergency",
        ),
        (
            "emergency",
            "medical emergency",
            "choking; I'm choking; chest pain; not breathing; poisoned myself",
        ),
        ("crisis", "medical emergency", "can't breathe"),
        ("concern", "medical emergency", "Heart attack.; bleeding"),
        ("crisis", "someone else at risk", "son suicidal"),
        ("concern", "someone else at risk", "he jumped; grandpa dying"),
        ("emergency", "someone else at risk", "Mom overdosed; friend unconscious; dad collapsed; won't wake"),
    ],
)
def test_a_word_or_two_can_be_enough(level, category, messages):
    heard = {message: assess(said(message)) for message in messages.split("; ")}
    assert {message: found.level for message, found in heard.items()} == dict.fromkeys(heard, level)
    assert all(category in found.categories for found in heard.values())


@pytest.mark.parametrize(
    "innocent",
    [
        *("ok", "bye", "Good night.", "I'm fine", "no", "hi there", "the bridge", "gone fishing", "dead tired"),
        *("cutting grass", "Beats me!", "Baby kicks!", "On edge.", "Best way?", "Odd.", "Last night", "pills work"),
        # What is enough alone is not within a message that says more.
        "My dog died last spring. Gone forever.",
        "We were burgled. Took everything.",
        "She saw the spider. She jumped.",
        "We play paintball. Shoot them!",
        "I forgot the cake. Emergency!",
        "I took 1000 mg of paracetamol for my headache",
        "I've taken 1200 mg lithium daily for years",
        "I took up running in 2019 instead of sertraline",
    ],
)
def test_a_word_or_two_of_every_day_is_left_alone(innocent):
    assert assess(said(innocent)).level == "none"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", "/ "),
        ("...", "/ "),
        ("I'm fine. Thanks!", "/ im fine / thanks / "),
        ("I\u2019m NOT okay\u2026 really", "/ im not okay really / "),
        ("do not, can not, will not", "/ dont cant wont / "),
        ("i am gonna wanna", "/ im going to want to / "),
        ("my self, my self-esteem", "/ myself my self esteem / "),
        ("20mg at 10pm, 5 kms", "/ 20mg at 10pm 5 kms / "),
        ("h e l p me k1ll it", "/ help me kill it / "),
        ("one\n\ntwo\nthree", "/ one / two three / "),
    ],
)
def test_plain_words(message, words):
    assert plain_words(message).text == words


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("su*cide", "suicide"),
        ("999", "999"),
        ("f*nny", "fnny"),
        ("OD'd", "overdosed"),
        ("OD\u2019d", "overdosed"),
        ("odd", "odd"),
        ("killlll", "kill"),
        ("sooo", "so"),
        ("ki11", "kill"),
        ("mp3", "mp3"),
        ("overdone", "overdone"),
        ("overdose", "overdose"),
        ("himself", "himself"),
        ("\u200b", ""),
    ],
)
def test_plain_word(written, plain):
    assert plain_word(written) == plain
